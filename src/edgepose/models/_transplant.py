"""Start a LitePose from a wider ImageNet network: keep its most important channels ("weight selection").

LitePose's first layers are those of EfficientNet-Lite0, and its stages are the same inverted residuals, narrower,
deeper and with larger kernels. Each stage takes the donor's blocks of the same stride, with the channels that the next
expansions weigh most and the hidden channels with the largest projections; a 3x3 or 5x5 kernel goes into the middle of
the 7x7; blocks the donor lacks start as the identity. (After Xu et al., "Initializing models with larger ones",
ICLR 2024, which picks channels evenly.)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from edgepose.models.efficientlite import Arch, EfficientLite, load_imagenet


def load_imagenet_slices(net: Any, path: str) -> None:
    """Fill the encoder of a LitePose `net` from an EfficientNet-Lite0 checkpoint (`efficientlite.load_imagenet`)."""
    donor: Any = EfficientLite(Arch(stages=7))
    load_imagenet(donor, path)
    entry = donor.stages[0][0]
    pairs = [(net.first[0][0], donor.stem[0]), (net.first[0][1], donor.stem[1])]
    pairs += [(net.first[1][0], entry.depthwise[0]), (net.first[1][1], entry.depthwise[1])]
    for ours, theirs in pairs:
        ours.load_state_dict(theirs.state_dict())
    kept = _most(_use(donor, 1), net.arch.stem)
    _copy(net.first[2], net.first[3], entry.project, kept, None)
    for s, stage in enumerate(net.stage):
        giving = donor.stages[s + 1]
        out = _most(_use(donor, s + 2) + sum(_inward(b) for b in giving[1:]), net.arch.channels[s])
        for i, block in enumerate(stage):
            if i < len(giving):
                _copy_block(block, giving[i], kept if i == 0 else out, out)
            elif block.residual:
                nn.init.zeros_(block.point_conv[1].weight)
        kept = out


def _inward(block: Any) -> Tensor:
    """How much a block reads of each channel that comes in."""
    return block.expand[0].weight.abs().sum((0, 2, 3))


def _use(donor: Any, stage: int) -> Tensor:
    """How much the first block of a stage reads of each channel that comes in."""
    return _inward(donor.stages[stage][0])


def _most(weight: Tensor, count: int) -> Tensor:
    """The `count` channels of largest weight, in order; the first ones again where there are too few."""
    order = weight.argsort(descending=True)
    return order[torch.arange(count) % len(order)].sort().values


def _copy(conv: Any, norm: Any, theirs: Any, out: Tensor, into: Tensor | None) -> None:
    """Copy the chosen outputs and inputs of a convolution with its BatchNorm; smaller kernels go into the middle."""
    weight = theirs[0].weight.detach()[out]
    weight = weight if into is None else weight[:, into]
    pad = (conv.kernel_size[0] - weight.shape[-1]) // 2
    conv.weight.data.copy_(nn.functional.pad(weight, (pad,) * 4))
    for name in ("weight", "bias", "running_mean", "running_var"):
        getattr(norm, name).data.copy_(getattr(theirs[1], name).detach()[out])


def _copy_block(block: Any, theirs: Any, into: Tensor, out: Tensor) -> None:
    hidden = _most(theirs.project[0].weight.abs().sum((0, 2, 3)), block.inv[0].out_channels)
    _copy(block.inv[0], block.inv[1], theirs.expand, hidden, into)
    _copy(block.depth_conv[0], block.depth_conv[1], theirs.depthwise, hidden, None)
    _copy(block.point_conv[0], block.point_conv[1], theirs.project, out, hidden)
