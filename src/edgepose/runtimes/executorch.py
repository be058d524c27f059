"""ExecuTorch: PyTorch's engine for devices, through XNNPACK. Its Python runtime brings PyTorch along."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Any

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import compare, example, fixed_size, need, one_by_one, silent, whole

SUFFIX = "pte"
EXTRA, READS, WRITES = "executorch", ("torch", "executorch.runtime"), ("torch", "executorch.exir")
FREE, LAYOUT, PEAKS = False, "nchw", False


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Export a torch module for single pictures of the codec's one size; there is no `half` here (`ValueError`).

    Wide depthwise convolutions are split first (`_strips`).
    """
    if half:
        raise ValueError("executorch stores float32 weights only: leave --half out")
    with silent():  # parts of torchao complain when they are imported
        need(EXTRA, *WRITES)
    import torch

    from edgepose.runtimes._strips import split

    h, w = fixed_size(card, "executorch")
    network, images = network.cpu().eval(), example((1, h, w))
    with whole(path) as part:
        part.write_bytes(_lowered(torch.export.export(split(network), (images,))))
        compare(read(card, part, threads=1), network, images, 1e-4)


def _lowered(program: Any) -> bytes:
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner  # pyright: ignore[reportMissingImports]
    from executorch.exir import to_edge_transform_and_lower  # pyright: ignore[reportMissingImports]

    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), silent():
            warnings.simplefilter("ignore")
            edge: Any = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
            return edge.to_executorch().buffer
    finally:
        logging.disable(level)


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """The program on the CPU, with XNNPACK's own number of `threads`: its Python runtime cannot be told one.

    `ValueError` for an unusable file or device.
    """
    need(EXTRA, *READS)
    import torch
    from executorch.runtime import Runtime  # pyright: ignore[reportMissingImports]

    if device != "cpu":
        raise ValueError(f"no device {device!r} for executorch here: it is cpu")
    try:
        with silent():
            method: Any = Runtime.get().load_program(Path(path)).load_method("forward")
    except (RuntimeError, OSError) as error:
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:300]}") from error

    def run(batch: Batch) -> Maps:
        return [maps.numpy().copy() for maps in method.execute((torch.from_numpy(batch),))]

    return one_by_one(run, fixed_size(card, "executorch"))
