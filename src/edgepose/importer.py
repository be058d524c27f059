"""Import: an official LitePose checkpoint becomes a model folder. Needs torch."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgepose.card import Card
from edgepose.codecs.bottomup import BottomUp
from edgepose.cost import cost
from edgepose.models import litepose
from edgepose.skeleton import COCO17, CROWDPOSE14
from edgepose.weights import save

SKELETONS = {len(s): s for s in (COCO17, CROWDPOSE14)}


def import_checkpoint(file: str | Path, out: str | Path, input_size: tuple[int, int] | None = None) -> Card:
    """Turn the LitePose checkpoint `file` into the model folder `out` and return its card.

    Understood: a state dict (.pth, .safetensors), a training checkpoint (its `best_state_dict`, else its `state_dict`),
    the prefixes "module." and "1." of data-parallel and half-precision wrappers, and a supernet, whose largest network
    is taken. Sizes are read off the weights. input_size: (height, width), equal multiples of 64 pixels; may be left out
    for the released architectures. `ValueError` says in one line what is wrong with the file or the size.
    """
    state, notes = read_state(file)
    net = load(state, str(file))
    arch = net.arch
    if arch.joints not in SKELETONS:
        raise ValueError(f"{file} has {arch.joints} joints; known are 17 (COCO) and 14 (CrowdPose)")
    variant, size = released(arch)
    if input_size is not None:
        size = square(input_size)
    if size is None:
        raise ValueError(f"{file} has sizes of its own, so its input size is unknown: give --input HxW, e.g. 448x448")
    found = cost(net, (size, size))
    origin = f"imported from {Path(file).name}, SHA-256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    card = Card(
        model=f"litepose-{variant}" if variant else "litepose",
        arch=asdict(arch),
        codec=BottomUp(SKELETONS[arch.joints], size),
        params=found.params,
        gmacs=found.gmacs,
        gmacs_paper=found.gmacs_paper,
        data="unknown: the checkpoint does not say",
        licence="unknown: the checkpoint does not say",
        notes="; ".join([origin, *notes]),
    )
    try:
        return save(out, card, net)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from error


def load(state: Mapping[str, Tensor], what: str) -> litepose.LitePose:
    """The LitePose with the weights of `state`; `ValueError` names the first missing and wrong keys of `what`."""
    try:
        arch = litepose.infer(state)
        if sum(arch.blocks) > len(state):
            raise ValueError(f"{sum(arch.blocks)} blocks cannot be in {len(state)} tensors")
        with torch.device("meta"):
            net = litepose.LitePose(arch)
    except (ValueError, IndexError, ZeroDivisionError, RuntimeError, TypeError) as error:
        with torch.device("meta"):
            usual = litepose.LitePose().state_dict()
        raise ValueError(_difference(state, usual, what) or f"{what} is not a LitePose checkpoint: {error}") from error
    problem = _difference(state, net.state_dict(), what)
    if problem:
        raise ValueError(problem)
    net = net.to_empty(device="cpu")
    net.load_state_dict(state)
    return net.eval()


def _difference(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str) -> str:
    """One line about the first keys that differ, or nothing."""
    missing = [k for k in wanted if k not in state]
    extra = [k for k in state if k not in wanted]
    if missing or extra:
        parts = [f"{len(k)} {how}, first {k[0]!r}" for k, how in ((missing, "missing"), (extra, "unexpected")) if k]
        return f"{what} is not a complete LitePose checkpoint: keys {'; '.join(parts)}"
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            return f"{what}: {key!r} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        if not state[key].isfinite().all():
            return f"{what}: {key!r} has values that are not finite"
    return ""


def released(arch: litepose.Arch) -> tuple[str, int | None]:
    """Variant name and input size in pixels of a released architecture, whatever its joints; else ("", None)."""
    for variant, (known, size) in litepose.ARCHS.items():
        if replace(arch, joints=known.joints) == known:
            return variant, size
    return "", None


def square(size: tuple[int, int]) -> int:
    """Short side of the input `size` (height, width); `ValueError` unless both are one positive multiple of 64."""
    height, width = size
    if height != width or height < 64 or height % 64:
        raise ValueError(
            f"input {height}x{width}: LitePose fits the short side of any picture to one size, so give the same "
            "multiple of 64 twice, e.g. 256x256"
        )
    return height


def read_state(file: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """The network's tensors in `file`, float32, under their own names, and notes on what was left out.

    Nothing in the file is executed; one that needs code to be read is refused with a `ValueError`.
    """
    holder, notes = _read(Path(file)), []
    for key in ("best_state_dict", "state_dict"):
        if isinstance(holder, Mapping) and isinstance(holder.get(key), Mapping):
            holder, notes = holder[key], [f"{key} of a training checkpoint"]
            break
    if not isinstance(holder, Mapping) or not holder:
        raise ValueError(f"{file} holds {type(holder).__name__}, not the named tensors of a network")
    state: dict[str, Tensor] = {}
    for key, value in holder.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise ValueError(f"{file} is not a checkpoint of a network: {key!r} is not a tensor")
        state[key] = value.float() if value.is_floating_point() else value
    while prefix := next((p for p in ("module.", "1.") if all(k.startswith(p) for k in state)), ""):
        state = {key.removeprefix(prefix): value for key, value in state.items()}
    kernels = [key for key in state if re.search(r"\.Linear\dx\d\.", key)]
    if kernels:
        notes.append(f"{len(kernels)} kernel transforms of a supernet left out, its largest network kept")
    return {key: value for key, value in state.items() if key not in kernels}, notes


def _read(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load as load_safetensors

            return load_safetensors(path.read_bytes())
        with torch.serialization.safe_globals(_numbers()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # a damaged file fails in any of the readers' ways
        code = re.search(r"GLOBAL ([\w.]+)", str(error))
        if code:
            raise ValueError(
                f"{path} is refused: reading it would run code ({code[1]}); save it again as a plain state dict"
            ) from error
        kind = "safetensors" if path.suffix == ".safetensors" else "PyTorch"
        raise ValueError(f"{path} is not a {kind} checkpoint, or is damaged; nothing in it was run") from error


def _numbers() -> list[Any]:
    """numpy scalars, which training checkpoints keep beside the weights: they hold bytes and run nothing."""
    scalar = np._core.multiarray.scalar  # pyright: ignore[reportAttributeAccessIssue]
    kinds = [type(np.dtype(k)) for k in ("f8", "f4", "i8")]
    return [(scalar, "numpy.core.multiarray.scalar"), (scalar, "numpy._core.multiarray.scalar"), np.dtype, *kinds]
