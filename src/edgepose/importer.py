"""Import: a released checkpoint of any network here becomes a model folder. Needs torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from edgepose import folder
from edgepose.card import Card
from edgepose.checkpoint import read_state
from edgepose.codecs.topdown import TopDown
from edgepose.models import hourglass, input_hw, skeleton_of
from edgepose.models._operations import operations
from edgepose.weights import save

Size = int | tuple[int, int]  # of an input in pixels: short side of whole pictures, or (w, h) of crops


def import_checkpoint(file: str | Path, out: str | Path, input_size: tuple[int, int] | None = None) -> Card:
    """Turn the checkpoint `file` into the model folder `out` and return its card.

    Understood: a state dict (.pth, .safetensors) in the authors' or MMPose's layout of any network of this package, a
    training checkpoint (its `best_state_dict`, else its `state_dict`), the prefixes "module." and "1." of data-parallel
    and half-precision wrappers, and a supernet, whose largest network is taken. The network and its sizes are read off
    the weights. input_size: (height, width) in pixels; may be left out for released architectures, whose first size in
    the list of models is taken then. `ValueError` says in one line what is wrong with the file or the size.
    """
    state, notes = read_state(file)
    family, net = load(state, str(file))
    module, arch = folder.entry("edgepose.models", family), net.arch
    try:
        skeleton = skeleton_of(arch.joints)
    except ValueError as error:
        raise ValueError(f"{file} has {error}") from None
    variant, size = released(module, arch, None if input_size is None else sized(module, input_size))
    if size is None:
        raise ValueError(f"{file} has sizes of its own, so its input size is unknown: give --input HxW, e.g. 448x448")
    codec = module.codec(arch, skeleton, size)
    with torch.device("meta"):
        twin = module.build(arch).eval()
    if isinstance(codec, TopDown):
        check_crop(twin, codec)
    if isinstance(arch, hourglass.Arch) and not arch.basic:
        codec = replace(codec, mean=hourglass.MEAN, std=(1.0, 1.0, 1.0))
    found = operations(twin, input_hw(size))
    origin = f"imported from {Path(file).name}, SHA-256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    card = Card(
        model=f"{family}-{variant}" if variant else family,
        arch=asdict(arch),
        codec=codec,
        params=found.params,
        gmacs=found.gmacs,
        gmacs_paper=found.gmacs_paper,
        gops=found.gops,
        data="unknown: the checkpoint does not say",
        licence="unknown: the checkpoint does not say",
        notes="; ".join([origin, *notes]),
    )
    try:
        return save(out, card, net)
    except OSError as error:
        raise ValueError(f"cannot write {out}: {error.strerror or error}") from error


def load(state: Mapping[str, Tensor], what: str) -> tuple[str, Any]:
    """File of `edgepose.models` and network, in eval mode, that `state` fits, each file being asked in turn.

    `ValueError` names the network that comes nearest, and its first missing and wrong keys, if `what` fits none.
    """
    problems = []
    for family in folder.names("edgepose.models"):
        module = folder.entry("edgepose.models", family)
        own = module.native(state)
        net = _inferred(module, own)
        if net is None:
            continue
        problem = _difference(own, net.state_dict(), what, family)
        if not problem:
            net = net.to_empty(device="cpu")
            net.load_state_dict(own)
            return family, net.eval()
        problems.append((_alike(own, net.state_dict()), problem))
    raise ValueError(max(problems)[1] if problems else _nearest(state, what))


def _inferred(module: Any, own: Mapping[str, Tensor]) -> Any:
    """The network, on the meta device, whose sizes a file of `edgepose.models` reads off `own`; None if it cannot."""
    try:
        with torch.device("meta"):
            return module.build(module.infer(own))
    except (ValueError, IndexError, KeyError, ZeroDivisionError, RuntimeError, TypeError, OverflowError):
        return None


def _nearest(state: Mapping[str, Tensor], what: str) -> str:
    """One line about what keeps `state` from being the usual network of the file that it is most like."""
    problems, names = [], folder.names("edgepose.models")
    for family in names:
        module = folder.entry("edgepose.models", family)
        own = module.native(state)
        with torch.device("meta"):
            usual = module.build(next(iter(module.ARCHS.values()))[0]).state_dict()
        problems.append((_alike(own, usual), _difference(own, usual, what, family)))
    alike, problem = max(problems)
    if not any(alike):
        problem = (
            f"{what} is no checkpoint of a network known here ({', '.join(names)}): first key {next(iter(state))!r}"
        )
    return problem


def _alike(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> tuple[int, int]:
    """How many tensors have the same key and shape, and how many the same key."""
    shared = state.keys() & wanted.keys()
    return sum(state[k].shape == wanted[k].shape for k in shared), len(shared)


def _difference(state: Mapping[str, Tensor], wanted: Mapping[str, Tensor], what: str, family: str) -> str:
    """One line about the first keys that differ, or nothing."""
    missing = [k for k in wanted if k not in state]
    extra = [k for k in state if k not in wanted]
    if missing or extra:
        parts = [f"{len(k)} {how}, first {k[0]!r}" for k, how in ((missing, "missing"), (extra, "unexpected")) if k]
        return f"{what} is not a complete {family} checkpoint: keys {'; '.join(parts)}"
    for key, value in wanted.items():
        if state[key].shape != value.shape:
            return f"{what}: {key!r} has shape {tuple(state[key].shape)}, expected {tuple(value.shape)}"
        if not state[key].isfinite().all():
            return f"{what}: {key!r} has values that are not finite"
    return ""


def released(module: Any, arch: Any, size: Size | None = None) -> tuple[str, Size | None]:
    """Variant name and input size of a released architecture, of that `size` if given; else ("", `size`).

    Its joints may differ; of several variants, one with the same joints is preferred.
    """
    same = [row for row in module.ARCHS.items() if replace(arch, joints=row[1][0].joints) == row[1][0]]
    same.sort(key=lambda row: (row[1][1] != size, row[1][0].joints != arch.joints))
    return (same[0][0], size or same[0][1][1]) if same else ("", size)


def sized(module: Any, size: tuple[int, int]) -> Size:
    """The input `size` (height, width) as this network's codec has it: short side, or (w, h) for crops.

    `ValueError` unless the former is a positive multiple of 64 given twice, the latter positive multiples of 32.
    """
    height, width = size
    if isinstance(next(iter(module.ARCHS.values()))[1], tuple):
        if min(size) < 32 or height % 32 or width % 32:
            raise ValueError(f"input {height}x{width}: crops are multiples of 32 pixels, e.g. 256x192")
        return width, height
    if height != width or height < 64 or height % 64:
        raise ValueError(
            f"input {height}x{width}: this network fits the short side of any picture to one size, so give the same "
            "multiple of 64 twice, e.g. 256x256"
        )
    return height


def check_crop(twin: Any, codec: TopDown) -> None:
    """`ValueError` unless the network (`twin`, on the meta device) makes maps of the codec's size from its crops."""
    w, h = codec.input_size
    try:
        with torch.inference_mode():
            maps = twin(torch.empty(1, 3, h, w, device="meta"))
        fits = {tuple(m.shape[2:]) for m in maps} == {(h // codec.stride, w // codec.stride)}
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"input {h}x{w} does not fit this network: give multiples of 64 or 128, e.g. 256x256")
