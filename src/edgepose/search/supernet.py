"""Supernet: one network whose leading corners are all the candidates of a space (LitePose, section 4).

The supernet *is* the largest network. A subnet has the first channels of every tensor, the middle of a larger kernel
and the first blocks of every stage, nothing of its own: `part` cuts its tensors, as views, and `functional_call` runs
them, so that a step's gradient lands in the corner that was used. BatchNorm statistics are cut like all else: a
training step normalises by its own batch and moves the running means of its corner, which belong to no subnet in
particular; `recalibrate.statistics` gives a subnet its own before it is judged or saved.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgepose import folder
from edgepose.models.litepose import LitePose
from edgepose.search.plan import Search
from edgepose.search.space import Space


def part(whole: Tensor, shape: torch.Size) -> Tensor:
    """The leading corner of `shape`, a view; of kernels that are larger, the middle."""
    corner = [slice(n) for n in shape]
    for axis in range(2, len(shape)):
        first = (whole.shape[axis] - shape[axis]) // 2
        corner[axis] = slice(first, first + shape[axis])
    return whole[tuple(corner)]


@lru_cache(maxsize=256)
def frame(arch: Any) -> nn.Module:
    """The network of `arch` in train mode, without memory for its tensors: what `functional_call` fills."""
    module = folder.entry("edgepose.models", type(arch).__module__.rsplit(".", 1)[-1])
    with torch.device("meta"):
        return module.build(arch)


def corner(net: nn.Module, arch: Any) -> dict[str, Tensor]:
    """The tensors of the subnet `arch` of `net`, by key, as views that carry gradients."""
    whole: Mapping[str, Tensor] = {**dict(net.named_parameters()), **dict(net.named_buffers())}
    return {key: part(whole[key], value.shape) for key, value in frame(arch).state_dict().items()}


def subnet(net: nn.Module, arch: Any) -> nn.Module:
    """A network of its own with the weights that `arch` inherits from `net`, in eval mode; see `recalibrate.py`."""
    own = copy.deepcopy(frame(arch)).to_empty(device="cpu")
    own.load_state_dict({key: value.detach() for key, value in corner(net, arch).items()})
    return own.eval()


class Supernet(nn.Module):
    """Runs `net`, or with an `arch` that subnet of it; its gradients and statistics are those of `net`."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, images: Tensor, arch: Any = None) -> list[Tensor]:
        if arch is None:
            return self.net(images)
        assert self.training, "a subnet is judged as a network of its own"
        tensors = corner(self.net, arch)
        first, *rest = torch.func.functional_call(frame(arch), tensors, (images,))
        idle = [p.flatten()[0] for key, p in self.net.named_parameters() if key not in tensors]  # of blocks left out
        if idle:
            first = first + 0 * torch.stack(idle).sum()  # processes that share gradients expect one of every weight
        return [first, *rest]


@dataclass(frozen=True)
class Sampler:
    """Which subnets learn at a step: the same in every process, and after a resume. First the one the others copy."""

    space: Space
    plan: Search
    seed: int = 0

    def __call__(self, step: int) -> list[Any]:
        rng = np.random.default_rng([self.seed, 3, step])
        drawn = [self.space.draw(rng) for _ in range(self.plan.subnets)]
        if self.plan.sandwich:
            drawn = [self.space.biggest(), *drawn, self.space.smallest()]
        return [candidate.arch for candidate in drawn]


@torch.no_grad()
def sort_channels(net: nn.Module) -> nn.Module:
    """Put the channels that the next layer weighs most first, so that leading corners keep them; maps do not change.

    As LitePose's authors begin (stem and the first three stages, by the absolute weights of the next expansion), and
    also the last stage, the hidden channels of every block, the upsampling steps, and whatever reads any of these, so
    that a trained head stays right. `ValueError` for other networks, whose layers this does not know.
    """
    if not isinstance(net, LitePose):
        raise ValueError(f"channels can be sorted in LitePose, not in {type(net).__name__}")
    own: Any = net
    stages, raw, up = list(own.stage), list(own.deconv_raw), list(own.deconv_refined)
    for block in (block for stage in stages for block in stage):
        order = _heaviest(block.point_conv[0].weight, 1)
        _reorder(order, [*block.inv[:2], *block.depth_conv[:2]], [block.point_conv[0]])
    heads = [list(own.final_raw[i].conv) for i in range(len(own.final_raw))]
    makers: list[Any] = [own.first[2], own.first[3]]
    readers: list[Any] = []
    for i, head in enumerate([heads[1] if heads else [], heads[0] if heads else [], [], [], []]):
        if i:  # a stage: every block adds to the same channels
            makers = [layer for block in stages[i - 1] for layer in block.point_conv[:2]]
            readers = [block.inv[0] for block in stages[i - 1][1:]] + ([raw[3 - i]] if raw and i < 4 else [])
        reader = stages[i][0].inv[0] if i < 4 else up[0]
        order = _heaviest(reader.weight, 0 if i == 4 else 1)
        _reorder(order, [*makers, *head[:2]], [*readers, reader, *head[3:]])
    for i, norm in enumerate(own.deconv_bnrelu):
        ends = list(own.final_refined[i - 1].conv) if i else []
        reader = up[i + 1] if i + 1 < len(up) else ends[3]
        order = _heaviest(reader.weight, 0 if i + 1 < len(up) else 1)
        _reorder(order, [up[i], *raw[i : i + 1], norm[0], *ends[:2]], [*up[i + 1 : i + 2], *ends[3:]])
    return net


def _heaviest(weight: Tensor, axis: int) -> Tensor:
    """The channels along `axis`, those of the largest absolute weights first."""
    return weight.abs().sum([d for d in range(weight.ndim) if d != axis]).argsort(descending=True, stable=True)


def _reorder(order: Tensor, makers: Iterable[Any], readers: Iterable[Any]) -> None:
    """Put the channels that `makers` (convolutions, BatchNorms) give and `readers` take into `order`."""
    for layer in makers:
        turned = isinstance(layer, nn.ConvTranspose2d)
        for tensor in [*layer.parameters(), *layer.buffers()]:
            if tensor.ndim:
                tensor.copy_(tensor[:, order] if turned else tensor[order])
    for layer in readers:
        turned = isinstance(layer, nn.ConvTranspose2d)
        layer.weight.copy_(layer.weight[order] if turned else layer.weight[:, order])
