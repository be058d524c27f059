"""Checkpoint: reads the tensors of a trained network from a file that nobody vouches for; runs nothing. Needs torch."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

MAKERS = ("scalar", "_reconstruct")  # how numpy pickles a number and an array


def read_state(file: str | Path) -> tuple[dict[str, Tensor], list[str]]:
    """The network's tensors in `file`, float32, under their own names, and notes on what was left out.

    Nothing in the file is executed; one that needs code to be read is refused with a `ValueError`.
    """
    holder, notes = _read(Path(file)), []
    for key in ("best_state_dict", "state_dict", "model"):
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


def _numbers() -> list[Any]:
    """numpy scalars and arrays, which checkpoints keep beside the weights: they hold bytes and run nothing."""
    core = np._core.multiarray  # pyright: ignore[reportAttributeAccessIssue]
    made = [(getattr(core, name), f"numpy.{at}.multiarray.{name}") for name in MAKERS for at in ("core", "_core")]
    return [*made, np.ndarray, np.dtype, *(type(np.dtype(k)) for k in ("f8", "f4", "i8", "i4", "u1", "?"))]
