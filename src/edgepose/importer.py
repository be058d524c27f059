"""Import: a released checkpoint of any network here becomes a model folder. Needs torch."""

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

from edgepose import folder
from edgepose.card import Card
from edgepose.codecs.topdown import TopDown
from edgepose.cost import cost
from edgepose.models import hourglass, input_hw, skeleton_of
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
        twin = module.build(arch)
    if isinstance(codec, TopDown):
        check_crop(twin, codec)
    if isinstance(arch, hourglass.Arch) and not arch.basic:
        codec = replace(codec, mean=hourglass.MEAN, std=(1.0, 1.0, 1.0))
    found = cost(twin, input_hw(size))
    origin = f"imported from {Path(file).name}, SHA-256 {hashlib.sha256(Path(file).read_bytes()).hexdigest()}"
    card = Card(
        model=f"{family}-{variant}" if variant else family,
        arch=asdict(arch),
        codec=codec,
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


def load(state: Mapping[str, Tensor], what: str) -> tuple[str, Any]:
    """File of `edgepose.models` and network, in eval mode, that `state` fits, each file being asked in turn.

    `ValueError` names the network that comes nearest, and its first missing and wrong keys, if `what` fits none.
    """
    problems = []
    for family in folder.names("edgepose.models"):
        module = folder.entry("edgepose.models", family)
        own = module.native(state)
        with torch.device("meta"):
            try:
                net = module.build(module.infer(own))
            except (ValueError, IndexError, KeyError, ZeroDivisionError, RuntimeError, TypeError, OverflowError):
                net = module.build(next(iter(module.ARCHS.values()))[0])
        wanted = net.state_dict()
        problem = _difference(own, wanted, what, family)
        if not problem:
            net = net.to_empty(device="cpu")
            net.load_state_dict(own)
            return family, net.eval()
        shared = own.keys() & wanted.keys()
        problems.append((sum(own[k].shape == wanted[k].shape for k in shared), len(shared), problem))
    fitting, _, problem = max(problems, key=lambda p: p[:2])
    if not fitting:
        names = ", ".join(folder.names("edgepose.models"))
        raise ValueError(f"{what} is no checkpoint of a network known here ({names}): first key {next(iter(state))!r}")
    raise ValueError(problem)


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

    `ValueError` unless the former is a positive multiple of 64 given twice.
    """
    height, width = size
    if isinstance(next(iter(module.ARCHS.values()))[1], tuple):
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
        raise ValueError(
            f"input {h}x{w} does not fit this network: height and width must be multiples of 32, 64 or 128"
        )


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
    if not any(key.endswith("num_batches_tracked") for key in state):  # files from before PyTorch 0.4.1
        norms = [key.removesuffix("running_var") for key in state if key.endswith("running_var")]
        state |= {f"{norm}num_batches_tracked": torch.tensor(0) for norm in norms}
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


MAKERS = ("scalar", "_reconstruct")  # how numpy pickles a number and an array


def _numbers() -> list[Any]:
    """numpy scalars and arrays, which checkpoints keep beside the weights: they hold bytes and run nothing."""
    core = np._core.multiarray  # pyright: ignore[reportAttributeAccessIssue]
    made = [(getattr(core, name), f"numpy.{at}.multiarray.{name}") for name in MAKERS for at in ("core", "_core")]
    return [*made, np.ndarray, np.dtype, *(type(np.dtype(k)) for k in ("f8", "f4", "i8", "i4", "u1", "?"))]
