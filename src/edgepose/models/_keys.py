"""State-dict keys of released checkpoints: what the files of this folder share in `native` and `infer`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from edgepose.checkpoint import read_state

MMPOSE = ("backbone.", "head.", "keypoint_head.")  # how MMPose 0.x and 1.x begin the keys of a network


def bare(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors without MMPose's `backbone.` and `head.`, if every key has one; else unchanged."""
    if not all(key.startswith(MMPOSE) for key in state):
        return dict(state)
    return {key.split(".", 1)[1]: value for key, value in state.items()}


def count(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many modules stand in the list at `prefix`: one more than the highest number behind it; 0 if there is none.

    `ValueError` for a key that has no number there, or one too high for a state of this length.
    """
    numbers = {int(key[len(prefix) :].split(".")[0]) for key in state if key.startswith(prefix)}
    if numbers and not 0 <= max(numbers) < len(state):
        raise ValueError(f"{prefix}{max(numbers)} cannot be among {len(state)} tensors")
    return 1 + max(numbers, default=-1)


def load_trunk(net: nn.Module, path: str, head: tuple[str, ...], what: str) -> None:
    """Copy all of `net` but what begins with `head` from an ImageNet checkpoint that has the same keys (and more).

    `ValueError` says what is wrong with the file, or names the first tensors that do not fit.
    """
    given = bare(read_state(path)[0])
    wanted = {k: v for k, v in net.state_dict().items() if not k.startswith(head)}
    wrong = [k for k, v in wanted.items() if k not in given or given[k].shape != v.shape]
    if wrong:
        raise ValueError(f"{path} is no ImageNet {what}: {wrong[:3]} do not match")
    net.load_state_dict({k: given[k] for k in wanted}, strict=False)
