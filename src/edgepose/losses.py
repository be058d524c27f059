"""Losses: plain functions from maps and targets to scalars."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor


def heatmap_mse(maps: Tensor, target: Tensor, mask: Tensor, focus: float = 0.0) -> Tensor:
    """Masked mean squared error over all pixels (HigherHRNet, LitePose).

    maps, target: (n, J, h, w). mask: the same shape or broadcastable, 0 where nothing is taught. focus: extra weight of
    a pixel, times its target (0 is the paper's loss; more lets peaks rise sooner in short training).
    """
    weight = mask * (1 + focus * target) if focus else mask
    return (weight * (maps - target) ** 2).mean()


def associative_embedding(tags: Tensor, table: Tensor) -> tuple[Tensor, Tensor]:
    """Push and pull of associative embedding (Newell et al., NIPS 2017), the "exp" variant of LitePose.

    tags: (n, J, h, w) or (n, J h w). table: (n, people, J, 2), flat index and 0/1 (`codecs.heatmap.joint_table`).
    Returns (push, pull), means over the batch.
    """
    flat = tags.flatten(1)
    t = flat.gather(1, table[..., 0].flatten(1)).view(table.shape[:-1])
    seen = table[..., 1].to(t.dtype)
    count = seen.sum(-1)
    person = (count > 0).to(t.dtype)
    mean = (t * seen).sum(-1) / count.clamp(min=1)
    people = person.sum(-1)
    spread = (seen * (t - mean[..., None]) ** 2).sum(-1) / count.clamp(min=1)
    pull = spread.sum(-1) / people.clamp(min=1)
    pairs = person[:, :, None] * person[:, None, :]
    near = (pairs * torch.exp(-((mean[:, :, None] - mean[:, None, :]) ** 2))).sum((1, 2)) - people
    push = 0.5 * near / (people * (people - 1)).clamp(min=1)
    return push.mean(), pull.mean()


def bottom_up(
    maps: Sequence[Tensor], targets: Mapping[str, Tensor], focus: float = 0.0, tag_weight: float = 1e-3
) -> dict[str, Tensor]:
    """All terms for maps whose first output carries J tags after its J heatmaps; `loss` is what is minimised.

    targets: `heatmaps_i` and `mask_i` per output, `joints` for the tags (`BottomUp.targets`).
    """
    joints = targets["heatmaps_0"].shape[1]
    heat = [
        heatmap_mse(m[:, :joints], targets[f"heatmaps_{i}"], targets[f"mask_{i}"], focus) for i, m in enumerate(maps)
    ]
    push, pull = associative_embedding(maps[0][:, joints : 2 * joints], targets["joints"])
    terms = {f"heatmap_{i}": h for i, h in enumerate(heat)}
    return {"loss": torch.stack(heat).sum() + tag_weight * (push + pull), **terms, "push": push, "pull": pull}
