"""Losses: plain functions from maps and targets to scalars."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor


def heatmap_mse(maps: Tensor, target: Tensor, mask: Tensor, focus: float = 0.0) -> Tensor:
    """Masked mean squared error over all pixels (HigherHRNet, LitePose).

    maps, target: (n, J, h, w). mask: the same shape or broadcastable, 0 where nothing is taught. focus: extra weight of
    a pixel, times its target (0 is the paper's loss; more lets peaks rise sooner in short training).
    """
    weight = mask * (1 + focus * target) if focus else mask
    return (weight * (maps - target) ** 2).mean()


def ohkm(maps: Tensor, target: Tensor, mask: Tensor, hardest: int = 8) -> Tensor:
    """Online hard keypoint mining (Chen et al., CVPR 2018): squared error of each sample's `hardest` joints alone.

    Shapes as `heatmap_mse`; `ValueError` if there are fewer joints.
    """
    if maps.shape[1] < hardest:
        raise ValueError(f"the loss 'ohkm' looks at the {hardest} hardest joints; this network has {maps.shape[1]}")
    error = (mask * (maps - target) ** 2).flatten(2).mean(2)
    return error.topk(hardest, 1).values.mean()


def awing(
    maps: Tensor, target: Tensor, mask: Tensor, alpha: float = 2.1, omega: float = 14.0, epsilon: float = 1.0,
    theta: float = 0.5,
) -> Tensor:  # fmt: skip
    """Adaptive wing loss (Wang et al., ICCV 2019), the mean over all pixels: logarithmic below an error of `theta`,
    linear above, sharper where the target is high. Shapes as `heatmap_mse`."""
    power, error = alpha - target, (maps - target).abs()
    ratio = (theta / epsilon) ** power
    slope = omega / (1 + ratio) * power * (theta / epsilon) ** (power - 1) / epsilon
    near = omega * torch.log1p((error / epsilon).clamp(min=1e-12) ** power)
    far = slope * error - (theta * slope - omega * torch.log1p(ratio))
    return (mask * torch.where(error < theta, near, far)).mean()


def spatial_kl(maps: Tensor, teacher: Tensor, mask: Tensor, tau: float = 0.1) -> Tensor:
    """KL(teacher || maps) of the softmax over pixels at temperature `tau`, the mean over joints with a mask (BiHRNet).

    maps, teacher: (n, J, h, w). mask: broadcastable, a joint counts where it is not 0 anywhere.
    """
    ours, theirs = (m.flatten(2) / tau for m in (maps, teacher))
    divergence = torch.nn.functional.kl_div(
        ours.log_softmax(2), theirs.log_softmax(2), log_target=True, reduction="none"
    )
    seen = (mask.expand(*maps.shape[:2], *mask.shape[2:]).flatten(2) != 0).any(2).to(maps.dtype)
    return (divergence.sum(2) * seen).sum() / seen.sum().clamp(min=1)


HEATMAP: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {"mse": heatmap_mse, "ohkm": ohkm, "awing": awing}


def heatmap(name: str) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss between heatmaps called `name`; `ValueError` lists the known ones."""
    if name not in HEATMAP:
        raise ValueError(f"no loss called {name!r}; known: {', '.join(HEATMAP)}")
    return HEATMAP[name]


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
    maps: Sequence[Tensor],
    targets: Mapping[str, Tensor],
    compare: Callable[[Tensor, Tensor, Tensor], Tensor] = heatmap_mse,
    tag_weight: float = 1e-3,
    teacher: Sequence[Tensor] | None = None,
    copy_weight: float = 0.0,
) -> dict[str, Tensor]:
    """All terms for maps whose first output carries J tags after its J heatmaps; `loss` is what is minimised.

    targets: `heatmaps_i` and `mask_i` per output, `joints` for the tags (`BottomUp.targets`). teacher: maps of another
    network for the same pictures; `copy_weight` times the masked squared error from its heatmaps is added, tags are not
    copied (LitePose's distillation).
    """
    joints = targets["heatmaps_0"].shape[1]
    heat = [compare(m[:, :joints], targets[f"heatmaps_{i}"], targets[f"mask_{i}"]) for i, m in enumerate(maps)]
    push, pull = associative_embedding(maps[0][:, joints : 2 * joints], targets["joints"])
    terms = {f"heatmap_{i}": h for i, h in enumerate(heat)}
    total = torch.stack(heat).sum() + tag_weight * (push + pull)
    if teacher is not None:
        pairs = enumerate(zip(maps, teacher, strict=True))
        terms["copy"] = torch.stack(
            [heatmap_mse(m[:, :joints], t[:, :joints], targets[f"mask_{i}"]) for i, (m, t) in pairs]
        ).sum()
        total = total + copy_weight * terms["copy"]
    return {"loss": total, **terms, "push": push, "pull": pull}


def body_parts(
    maps: Sequence[Tensor], targets: Mapping[str, Tensor], parts: Mapping[str, Sequence[int]], focus: float = 0.0
) -> dict[str, Tensor]:
    """Squared error of every part's maps (n, joints of the part, h, w) against its joints' targets, by part (RMPG).

    maps: in the order of `parts` (`Skeleton.parts`: rows of the joints), once or more often. targets: `heatmaps_0` and
    `weights`. `assert` that the maps are of these parts.
    """
    terms: dict[str, Tensor] = {}
    for (name, rows), m in zip(itertools.cycle(parts.items()), maps, strict=False):
        assert m.shape[1] == len(rows), f"{m.shape[1]} maps for the {len(rows)} joints of {name}"
        mask = targets["weights"][:, rows, None, None]
        terms[name] = terms.get(name, 0) + heatmap_mse(m, targets["heatmaps_0"][:, rows], mask, focus)
    return terms


def top_down(
    maps: Sequence[Tensor],
    targets: Mapping[str, Tensor],
    compare: Callable[[Tensor, Tensor, Tensor], Tensor] = heatmap_mse,
    teacher: Sequence[Tensor] | None = None,
    kl_weight: float = 0.0,
    tau: float = 0.1,
) -> dict[str, Tensor]:
    """All terms for one person a crop: every output against `heatmaps_0` (or `heatmaps_i`), joints by `weights`.

    teacher: maps of another network for the same crops; `kl_weight` times `spatial_kl` of the last outputs is added.
    """
    mask = targets["weights"][:, :, None, None]
    heat = [compare(m, targets.get(f"heatmaps_{i}", targets["heatmaps_0"]), mask) for i, m in enumerate(maps)]
    terms = {f"heatmap_{i}": h for i, h in enumerate(heat)}
    total = torch.stack(heat).sum()
    if teacher is not None:
        terms["kl"] = spatial_kl(maps[-1], teacher[-1], mask, tau)
        total = total + kl_weight * terms["kl"]
    return {"loss": total, **terms}
