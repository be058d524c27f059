"""Shared parts: the residual blocks of ResNet (He et al., CVPR 2016, figure 5) and HRNet."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn


class BasicBlock(nn.Module):
    """Two 3x3 convolutions with BatchNorm; the input is added before the last ReLU."""

    expansion = 1

    def __init__(self, a: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(a, planes, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.relu = nn.ReLU(inplace=True)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.downsample = shortcut(a, planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 (which has the stride) and 1x1 to four times `planes`; the input is added before the last ReLU."""

    expansion = 4

    def __init__(self, a: int, planes: int, stride: int = 1) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(a, planes, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(4 * planes)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = shortcut(a, 4 * planes, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + (x if self.downsample is None else self.downsample(x)))


def shortcut(a: int, b: int, stride: int) -> nn.Sequential | None:
    """1x1 convolution and BatchNorm where the input of a block has not the shape of its output."""
    if stride == 1 and a == b:
        return None
    return nn.Sequential(nn.Conv2d(a, b, 1, stride, bias=False), nn.BatchNorm2d(b))


def residuals(block: Any, a: int, planes: int, count: int, stride: int = 1) -> nn.Sequential:
    """`count` blocks (a class as above) in a row; the first takes `a` channels and has the stride."""
    first = block(a, planes, stride)
    return nn.Sequential(first, *(block(block.expansion * planes, planes) for _ in range(count - 1)))


def init_small(net: nn.Module) -> None:
    """Every convolution begins as N(0, 0.001) with bias 0, as the authors of SimpleBaselines and HRNet begin."""
    for module in net.modules():
        if isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(module.weight, std=0.001)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
