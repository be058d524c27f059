"""The parse graph of feature maps: RMPG's refinement module (Liu et al., arXiv 2501.11069), see `rmpg.py`.

A module between the features of a network and its last layers: it splits the channels into a tree, top down, gives
every node the context of its siblings, and puts the tree together again, bottom up (abstract, versions 1 to 9). Method
section and code are not public to us: the wiring is a reconstruction that meets the published totals of parameters, and
docs/papers/rmpg.md says what is known. Networks take it by the field `refine` of their `Arch`. Every module begins as
the identity, so weights from before it keep their meaning.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from itertools import chain
from math import prod
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, relu, scaled_dot_product_attention

from edgepose.models._keys import count

KINDS = ("graph", "attention", "control")


@dataclass(frozen=True)
class Refine:
    """What refines the features of a network, and where.

    kind: "graph"; "attention", the same tree with attention over all (child, position) pairs for the context; or
    "control", as many parameters and multiply-adds as the graph in a plain stack of residual 3x3 convolutions.
    gp: children of a node per level, the root first. context_on: context comes from the siblings as they were split off
    ("raw", version 1 of the paper) or after they were refined ("refined", version 2 on). extra_conv: one more
    convolution in every composition. place: after which of the host's upsampling steps, from 1; 0 is the usual place.
    stages: modules in a row. parts: joints of the body parts that the middle module is taught (`Skeleton.parts`), so
    that its children and grandchildren stand for them; empty is unsupervised.
    """

    kind: Literal["graph", "attention", "control"] = "graph"
    gp: tuple[int, ...] = (2, 2)
    context_on: Literal["raw", "refined"] = "raw"
    extra_conv: bool = False
    place: int = 0
    stages: int = 1
    parts: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for name in ("gp", "parts"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        for name, good in (
            ("kind", self.kind in KINDS),
            ("gp", self.gp and min(self.gp) > 1),
            ("context_on", self.context_on in ("raw", "refined")),
            ("place", self.place >= 0),
            ("stages", self.stages > 0),
            ("parts", not self.parts or (self.kind == "graph" and self.gp[:2] == (2, 2) and len(self.parts) == 6)),
        ):
            if not good:
                hint = "; parts are 6, of a graph whose gp begins with 2, 2" * (name == "parts")
                raise ValueError(f"a refinement cannot have {name} = {getattr(self, name)!r}{hint}")


def placed(arch: Any, usual: int, last: int, parts: bool = True) -> int:
    """The place (1 to `last`) of the refinement of a network's `arch`, by default `usual`; fields from JSON become a
    `Refine`. `ValueError` for another place, and for parts where the network takes none (unless `parts`)."""
    if isinstance(arch.refine, dict):
        object.__setattr__(arch, "refine", Refine(**arch.refine))
    how: Any = arch.refine
    if how is None:
        return usual
    if how.place > last:
        raise ValueError(f"refine.place is 1 to {last} in this network, or 0 for the usual one; got {how.place}")
    if how.parts and not parts:
        raise ValueError("body parts are taught to networks of one person at a time; leave refine.parts out")
    return how.place or usual


def conv_bn(a: int, b: int, act: bool = True) -> list[nn.Module]:
    """3x3 convolution with bias (the published totals need it), BatchNorm and, unless `act` is False, ReLU."""
    return [nn.Conv2d(a, b, 3, padding=1), nn.BatchNorm2d(b), *([nn.ReLU(inplace=True)] if act else [])]


class Residual(nn.Sequential):
    """Two 3x3 convolutions by way of `hidden` channels, and their input; begins as the identity with `still`."""

    def __init__(self, a: int, hidden: int, still: bool = False) -> None:
        super().__init__(*conv_bn(a, hidden), *conv_bn(hidden, a, act=False))
        if still:
            nn.init.zeros_(self[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Node(nn.Module):
    """A node of the graph: split along channels, refine the children, add the context of siblings, put together."""

    def __init__(self, channels: int, how: Refine, level: int = 0) -> None:
        super().__init__()
        n, self.level, self.raw = how.gp[level], level, how.context_on == "raw"
        d = channels // n
        self.below = nn.ModuleList(Node(d, how, level + 1) for _ in range(n) if level + 1 < len(how.gp))
        self.transform = nn.ModuleList(Residual(d, d) for _ in range(n))
        contexts = nn.ModuleList(nn.Sequential(*conv_bn(d, d)) for _ in range(n))
        self.context = nn.ModuleDict({f"{how.context_on}{n}": contexts})  # so that keys tell what shapes do not
        self.fuse = nn.ModuleList(nn.Sequential(*conv_bn(2 * d, d)) for _ in range(n))
        extra = conv_bn(channels, channels) if how.extra_conv else []
        self.compose = nn.Sequential(*extra, *conv_bn(channels, channels, act=False))
        if level == 0:
            nn.init.zeros_(self.compose[-1].weight)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return self.tree(x)[0]

    def tree(self, x: Tensor) -> tuple[Tensor, list[list[Tensor]]]:
        """The refined features, and the refined children, grandchildren, ... of this node, a list per level."""
        split = x.chunk(len(self.transform), 1)
        below: Any = self.below
        found: list[Any] = [node.tree(f) for node, f in zip(below, split, strict=True)] if len(below) else []
        deep = [y for y, _ in found] or split
        refined = [relu(t(h)) for t, h in zip(self.transform, deep, strict=True)]
        told = split if self.raw else refined
        contexts: Any = next(iter(self.context.values()))
        children = []
        for i, context in enumerate(contexts):
            others = reduce(torch.add, [s for j, s in enumerate(told) if j != i]) / (len(told) - 1)
            children.append(self.fuse[i](torch.cat([refined[i], context(others)], 1)))
        y = x + self.compose(torch.cat(children, 1))
        lower = [[*chain(*level)] for level in zip(*(levels for _, levels in found), strict=True)]
        return (relu(y) if self.level else y), [children, *lower]


class TokenNode(nn.Module):
    """The same node with self-attention for the context: every (child, position) pair is a token of C/n channels.

    After PGVL (arXiv 2509.07385), whose authors are RMPG's; their code mixes up children and positions when it puts the
    tokens together again, this one does not.
    """

    def __init__(self, channels: int, how: Refine, level: int = 0) -> None:
        super().__init__()
        self.n, self.raw = how.gp[level], how.context_on == "raw"
        below = (TokenNode(channels // self.n, how, level + 1) for _ in range(self.n) if level + 1 < len(how.gp))
        self.below = nn.ModuleList(below)
        self.norm = nn.LayerNorm(channels)
        self.context = nn.ModuleDict({f"{how.context_on}{self.n}": nn.Linear(channels, 3 * channels)})
        self.proj = nn.Linear(channels, channels)
        nn.init.zeros_(self.proj.weight)
        nn.init.zeros_(self.proj.bias)

    def forward(self, x: Tensor) -> Tensor:
        refined = x
        if len(self.below):
            refined = torch.cat([node(f) for node, f in zip(self.below, x.chunk(self.n, 1), strict=True)], 1)
        tokens = self.norm((x if self.raw else refined).flatten(2).transpose(1, 2))
        (qkv,) = self.context.values()
        q, k, v = (split_tokens(t, self.n) for t in qkv(tokens).chunk(3, 2))
        mixed = scaled_dot_product_attention(q[:, None], k[:, None], v[:, None])[:, 0]
        context = self.proj(join_tokens(mixed, self.n)).transpose(1, 2).unflatten(2, x.shape[2:])
        return refined + context


def split_tokens(x: Tensor, n: int) -> Tensor:
    """(b, positions, C) -> (b, n * positions, C / n): the first child's channels at all positions, then the next's."""
    return x.unflatten(2, (n, -1)).transpose(1, 2).flatten(1, 2)


def join_tokens(x: Tensor, n: int) -> Tensor:
    """The inverse of `split_tokens`."""
    return x.unflatten(1, (n, -1)).transpose(1, 2).flatten(2)


class Control(nn.Sequential):
    """Residual blocks of two 3x3 convolutions that cost what the graph of `how` costs, to one hidden channel."""

    def __init__(self, channels: int, how: Refine) -> None:
        hidden = control_widths(channels, how.gp, how.extra_conv)
        super().__init__(*(Residual(channels, width, still=True) for width in hidden))


def control_widths(channels: int, gp: tuple[int, ...], extra_conv: bool = False) -> tuple[int, ...]:
    """Hidden channels of each of the control's blocks: multiply-adds as near the graph's as they come, and as few
    blocks as bring the parameters within one percent of the graph's."""
    kernels, width, nodes = 0.0, channels, 1
    for n in gp:  # in a child of d channels: three convolutions d to d and one of 2 d; then one or two of the node
        kernels += 9 * nodes * width**2 * (5 / n + 1 + extra_conv)
        width, nodes = width // n, nodes * n
    whole = kernels + 3 * channels * (5 + extra_conv) * len(gp)  # with biases and BatchNorms
    hidden = round(kernels / (18 * channels))
    blocks = max(1, round(hidden / channels))
    while blocks < hidden and 18 * channels * hidden + 3 * (hidden + blocks * channels) < 0.99 * whole:
        blocks += 1
    return tuple(hidden // blocks + (i < hidden % blocks) for i in range(blocks))


MODULES = {"graph": Node, "attention": TokenNode, "control": Control}


class Refinement(nn.Module):
    """All modules of `how` on features of `channels` channels; without `how`, nothing, and no weights.

    scale: how many times finer the heatmaps are than the features. `ValueError` if the channels cannot be split.
    """

    def __init__(self, how: Refine | None, channels: int, scale: int = 1) -> None:
        super().__init__()
        self.scale, self.count, self.where = scale, 0, ""
        self.heads = nn.ModuleList()
        if how is None:
            return
        if channels % prod(how.gp):
            raise ValueError(f"gp = {how.gp} cannot split {channels} channels; take one whose product divides them")
        self.count, self.where = how.stages, f"place{how.place}"  # so that keys tell what shapes do not
        self.add_module(self.where, nn.ModuleList(MODULES[how.kind](channels, how) for _ in range(how.stages)))
        self.heads.extend(nn.Conv2d(channels // (2 if i < 2 else 4), k, 1) for i, k in enumerate(how.parts))
        for head in self.heads:
            nn.init.normal_(head.weight, std=0.001)  # type: ignore[arg-type]
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The refined features, and in training the maps of the parts (n, joints of the part, h * scale, w * scale)."""
        maps: list[Tensor] = []
        stages: Any = self.get_submodule(self.where) if self.count else ()
        for i, stage in enumerate(stages):
            if self.training and len(self.heads) and i == self.count // 2:
                x, levels = stage.tree(x)
                nodes = [node for level in levels[:2] for node in level]
                maps = [self._finer(head(node)) for head, node in zip(self.heads, nodes, strict=True)]
            else:
                x = stage(x)
        return x, maps

    def _finer(self, maps: Tensor) -> Tensor:
        if self.scale == 1:
            return maps
        return interpolate(maps, scale_factor=float(self.scale), mode="bilinear", align_corners=False)


def inferred(state: Mapping[str, Tensor], prefix: str = "refine.") -> Refine | None:
    """What refines the network of a state dict, whose refinement lies at `prefix`; None if nothing does.

    The control's `gp` cannot be told from its weights: the usual one with the same widths is taken.
    `ValueError` if the weights are of no refinement.
    """
    keys = [key for key in state if key.startswith(prefix)]
    place = next((m[1] for key in keys if (m := re.match(re.escape(prefix) + r"place(\d+)\.", key))), None)
    if place is None:
        return None
    stages = f"{prefix}place{place}."
    parts = tuple(state[f"{prefix}heads.{i}.weight"].shape[0] for i in range(count(state, f"{prefix}heads.")))
    found: dict[str, Any] = {"place": int(place), "stages": count(state, stages), "parts": parts}
    nodes = re.compile(re.escape(stages) + r"0\.((?:below\.0\.)*)context\.(raw|refined)(\d+)\.")
    levels = sorted({(len(m[1]), m[2], int(m[3])) for key in keys if (m := nodes.match(key))})
    if not levels:
        widths = tuple(state[f"{stages}0.{i}.0.weight"].shape[0] for i in range(count(state, f"{stages}0.")))
        channels = state[f"{stages}0.0.0.weight"].shape[1]
        usual = [(gp, extra) for gp in ((2, 2), (2,), (2, 2, 2), (4,), (4, 4)) for extra in (False, True)]
        fit = [{"gp": g, "extra_conv": e} for g, e in usual if control_widths(channels, g, e) == widths]
        if not fit:
            raise ValueError(f"the control of widths {widths} matches no usual gp")
        return Refine("control", **found, **fit[0])
    graph = f"{stages}0.compose.0.weight" in state
    extra = f"{stages}0.compose.3.weight" in state
    gp = tuple(n for _, _, n in levels)
    return Refine("graph" if graph else "attention", gp, levels[0][1], extra, **found)  # type: ignore[arg-type]
