"""Residual blocks of binary units: what stands for the blocks of `_blocks.py` in a binary network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edgepose.models._binary import BinaryConv, Bypass, Merge, Paths, RPReLU, RSign, Unit

SCALES: Paths = ((3, 1), (3, 2))  # 3x3 of dilation 1 and 2, which sees 3x3 and 5x5 pixels
BOTH: Paths = ((3, 1), (1, 1))
RECENTRE = -0.1  # where the shifts of signs behind a ReLU begin: about half of its outputs then are -1


class Residual(nn.Module):
    """Two 3x3 units, each with its own shortcut, for a BasicBlock (Bi-Real Net); with paths `SCALES` BiHRNet's MS-Block
    as it is read here (MS-A), with `BOTH` and `summed` its MS-C."""

    expansion = 1

    def __init__(
        self, a: int, planes: int, stride: int = 1, paths: Paths = ((3, 1),), summed: bool = False, shift: float = 0.0
    ) -> None:
        super().__init__()
        self.conv1 = Unit(a, planes, paths, stride, summed=summed, shift=shift)
        self.conv2 = Unit(planes, planes, paths, summed=summed)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv2(self.conv1(x))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride) and 1x1 to four times `planes`, and the input added before the last RPReLU.

    inner: with a shortcut around every convolution, so that no bit is lost without a real value beside it (IR-A, the IR
    Bottleneck as it is read here); False is the plain binary bottleneck. gate: channels of the last convolution are
    weighed by a real squeeze-and-excitation branch of 1/16 of their number (IR-B).
    """

    expansion = 4

    def __init__(
        self, a: int, planes: int, stride: int = 1, inner: bool = True, gate: bool = False, shift: float = 0.0
    ) -> None:
        super().__init__()
        wide, one = 4 * planes, ((1, 1),)
        self.conv1 = Unit(a, planes, one, shortcut=inner, shift=shift)
        self.conv2 = Unit(planes, planes, stride=stride, shortcut=inner)
        self.conv3 = Unit(planes, wide, one, shortcut=inner, act=inner)
        self.gate = Gate(wide) if gate else None
        self.shortcut = Bypass(a, wide, stride)
        self.act = Merge(wide) if inner else RPReLU(wide)

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv3(self.conv2(self.conv1(x)))
        if self.gate is not None:
            y = y * self.gate(y)
        return self.act(y + self.shortcut(x))


class Gate(nn.Module):
    """A factor between 0 and 1 a channel from the means over all pixels (Hu et al., CVPR 2018); begins near 1/2."""

    def __init__(self, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.down, self.up = nn.Conv2d(channels, hidden, 1), nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sigmoid(self.up(torch.relu(self.down(x.mean((2, 3), keepdim=True)))))


class Hierarchical(nn.Module):
    """Three binary 3x3 convolutions in a row, of 1/2, 1/4 and 1/4 of the channels, side by side, and the input added:
    the hierarchical, parallel, multi-scale block (Bulat and Tzimiropoulos, ICCV 2017); MS-B, and as a front IR-C."""

    def __init__(self, a: int, b: int, shift: float = 0.0) -> None:
        super().__init__()
        widths = (a, b // 2, b // 4)
        outs = (b // 2, b // 4, b - b // 2 - b // 4)
        self.bns = nn.ModuleList(nn.BatchNorm2d(w) for w in widths)
        self.signs = nn.ModuleList(RSign(w, shift if i == 0 else 0.0) for i, w in enumerate(widths))
        self.convs = nn.ModuleList(BinaryConv(w, o, 3) for w, o in zip(widths, outs, strict=True))
        self.shortcut = Bypass(a, b)
        self.act = RPReLU(b)

    def forward(self, x: Tensor) -> Tensor:
        parts, y = [], x
        for bn, sign, conv in zip(self.bns, self.signs, self.convs, strict=True):
            y = conv(sign(bn(y)))
            parts.append(y)
        return self.act(torch.cat(parts, 1) + self.shortcut(x))
