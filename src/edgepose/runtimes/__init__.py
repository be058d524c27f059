"""Runtimes run networks: one file an engine, each with the same names.

SUFFIX: of the weights file. EXTRA: of the package, that installs the engine. READS, WRITES: modules it needs to run a
file and to make one; READS is empty for the library that comes with edgepose, whose `state()` says whether it is there.
FREE: whether a file takes pictures of any size and number; the others take the size of `fixed_size`, one picture at a
time. LAYOUT: of the file's own input and maps, "nchw" or "nhwc"; a `Run` is always nchw. PEAKS: whether it can find
peaks in the graph (`BottomUp.peaks_in_graph`, `TopDown.peaks_in_graph`).
write(card, network, path, half): save a torch network, whole or not at all; `half` stores weights as float16. The
card's codec says what is written: its size, and whether peaks are found in the graph.
read(card, path, device, threads) -> Run: a function from a batch to maps; float16 weights are used as float32.
Engines are imported inside `write` and `read`, so the core needs none but the one it uses.
"""

from __future__ import annotations

import importlib
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run


def need(extra: str, *modules: str) -> None:
    """`ValueError` with the pip line for `extra` if one of `modules` cannot be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f'this needs {module}: pip install "edgepose[{extra}]" ({error})') from error


def cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free(card: Card) -> bool:
    """Whether the card's codec gives its network inputs of many sizes: whole pictures without a canvas."""
    codec: Any = card.codec
    return isinstance(codec.input_size, int) and codec.canvas is None


def fixed_size(card: Card, runtime: str) -> tuple[int, int]:
    """(height, width) of the one input that an engine without free sizes gets; `ValueError` if the card names none."""
    codec: Any = card.codec
    if free(card):
        raise ValueError(f"{runtime} takes inputs of one size, {card.model} follows the picture: give --input HxW")
    w, h = codec.canvas if isinstance(codec.input_size, int) else codec.input_size
    return h, w


def one_by_one(run: Callable[[Batch], Maps], size: tuple[int, int]) -> Run:
    """A `Run` from one of single pictures (1, 3, h, w) of `size` (h, w); `ValueError` for pictures of another size."""

    def loop(batch: Batch) -> Maps:
        if batch.shape[2:] != size:
            raise ValueError(f"this file takes pictures of {size[0]}x{size[1]} (height x width), not {batch.shape[2:]}")
        found = [run(np.ascontiguousarray(batch[i : i + 1])) for i in range(len(batch))]
        return [np.concatenate(maps) for maps in zip(*found, strict=True)]

    return loop


def example(shape: tuple[int, int, int]) -> Any:
    """A torch batch of `shape` (n, h, w) of normally distributed pixels, always the same."""
    import torch

    n, h, w = shape
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, 3, h, w), np.float32))


def compare(run: Run, network: Any, images: Any, tolerance: float) -> None:
    """`ValueError` unless `run` gives the maps of the torch `network`, to `tolerance` of their range."""
    import torch

    with torch.inference_mode():
        expected = [maps.numpy() for maps in network(images)]
    for i, (a, b) in enumerate(zip(expected, run(images.numpy()), strict=True)):
        if a.shape != b.shape:
            raise ValueError(f"export failed: maps {i} have shape {b.shape}, the network gives {a.shape}")
        off = float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-9))
        if not off <= tolerance:
            raise ValueError(f"export failed: maps {i} are off by {off:.1e} of their range for {tuple(images.shape)}")


@contextmanager
def whole(path: str | Path, *beside: str) -> Iterator[Path]:
    """A name to write under, renamed to `path` when the block ends well and removed when it does not.

    beside: suffixes of files that lie beside it ("bin": model.xml has model.bin); they are renamed before it.
    """
    path = Path(path)
    part = path.with_name(f".{os.getpid()}.{path.name}")
    files = [(sibling(part, suffix), sibling(path, suffix)) for suffix in beside] + [(part, path)]
    try:
        yield part
        for made, final in files:
            if final.is_dir():
                shutil.rmtree(final)
            os.replace(made, final)
    finally:
        for made, _ in files:
            shutil.rmtree(made) if made.is_dir() else made.unlink(missing_ok=True)


def sibling(path: Path, suffix: str) -> Path:
    """The file beside `path` with another last suffix."""
    return path.with_name(path.name.rsplit(".", 1)[0] + "." + suffix)


@contextmanager
def silent() -> Iterator[None]:
    """Nothing on stdout and stderr, which some engines write to from C++ as well."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(1), os.dup(2)]
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
        os.dup2(nothing.fileno(), 2)
    try:
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, copy in enumerate(kept, 1):
            os.dup2(copy, number)
            os.close(copy)
