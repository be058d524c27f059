"""Binary units as an inference engine wants them: constants folded, nothing left to learn."""

from __future__ import annotations

import copy
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgepose.models._binary import BinaryConv, Bypass, RPReLU, RSign, Unit


class FoldedSign(nn.Module):
    """+1 where x >= threshold, else -1; the very values of the RSign it stands for."""

    def __init__(self, sign: RSign) -> None:
        super().__init__()
        self.register_buffer("threshold", -sign.shift.detach().view(1, -1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.where(x >= self.threshold, 1.0, -1.0).to(x.dtype)  # type: ignore[operator]


class FoldedConv(nn.Module):
    """A binary convolution with `gain` (out channels) on its filters and a bias, its border of -1 included."""

    def __init__(self, conv: BinaryConv, gain: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        b, a, k, _ = conv.weight.shape
        self.padding = conv.padding
        self.conv = nn.Conv2d(a, b, k, conv.stride, 0, conv.dilation, bias=bias is not None)
        latent = conv.latent().detach()
        weight = torch.where(latent >= 0, 1.0, -1.0) * latent.abs().mean((1, 2, 3), keepdim=True)
        self.conv.weight = nn.Parameter((latent if conv.real else weight) * gain.view(-1, 1, 1, 1))
        if bias is not None:
            self.conv.bias = nn.Parameter(bias)

    def forward(self, signs: Tensor) -> Tensor:
        if self.padding:
            signs = functional.pad(signs, (self.padding,) * 4, value=-1.0)
        return self.conv(signs)


class FoldedUnit(nn.Module):
    """A `Unit` in eval mode whose scales and BatchNorm are in the weights and biases of its convolutions."""

    def __init__(self, unit: Unit) -> None:
        super().__init__()
        bn: Any = unit.bn
        gain = (bn.weight / torch.sqrt(bn.running_var + bn.eps)).detach()
        bias = (bn.bias - bn.running_mean * gain).detach()
        self.sign, self.summed = FoldedSign(unit.sign), unit.summed
        convs: list[Any] = list(unit.convs)
        if unit.summed:
            made = [FoldedConv(conv, gain, bias if i == 0 else None) for i, conv in enumerate(convs)]
        else:
            sizes = [len(conv.weight) for conv in convs]
            gains, biases = gain.split(sizes), bias.split(sizes)
            made = [FoldedConv(*args) for args in zip(convs, gains, biases, strict=True)]
        self.convs = nn.ModuleList(made)
        self.shortcut: Bypass | None = unit.shortcut
        self.act: RPReLU | None = unit.act

    def forward(self, x: Tensor) -> Tensor:
        signs = self.sign(x)
        parts = [conv(signs) for conv in self.convs]
        y = reduce(torch.add, parts) if self.summed or len(parts) == 1 else torch.cat(parts, 1)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return y if self.act is None else self.act(y)


@torch.no_grad()
def folded(net: nn.Module) -> nn.Module:
    """A copy of `net` in eval mode with the same outputs (to rounding), its binary layers replaced by folded ones."""
    net = copy.deepcopy(net).eval()
    for parent in list(net.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, Unit):
                setattr(parent, name, FoldedUnit(child))
            elif isinstance(child, BinaryConv) and not isinstance(parent, Unit):
                setattr(parent, name, FoldedConv(child, torch.ones(len(child.weight)), None))
            elif isinstance(child, RSign) and not isinstance(parent, Unit):
                setattr(parent, name, FoldedSign(child))
    return net
