"""Peaks found in the graph: a network with the first half of its codec's `decode` behind it, so that little comes out.

The arithmetic is that of `codecs.bottomup`, `codecs.grouping.find_peaks` and `adjusted`, and `codecs.heatmap.peaks`.
"""

from __future__ import annotations

from typing import Any

import cv2
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from edgepose.codecs.bottomup import BottomUp
from edgepose.codecs.topdown import TopDown


class WholePeaks(nn.Module):
    """`network` for whole pictures -> [(n, J, max_people, 4)]: x, y (input pixels), value and tag of the highest peaks
    of every joint, highest first; what lies below the codec's threshold is for the codec to leave out."""

    def __init__(self, network: Any, codec: BottomUp) -> None:
        super().__init__()
        self.network, self.codec, self.joints = network, codec, len(codec.skeleton)

    def forward(self, images: Tensor) -> list[Tensor]:
        outputs, (high, wide) = self.network(images), images.shape[2:]
        fine, share = outputs[-1].shape[2:], 1 / len(outputs)
        heat = _resized(outputs[0][:, : self.joints] * share, fine)
        for output in outputs[1:]:
            heat = heat + _resized(output[:, : self.joints] * share, fine)
        heat = _resized(heat, (high, wide))
        tags = _resized(_resized(outputs[0][:, self.joints :], fine), (high, wide))
        k = self.codec.nms_kernel
        top = torch.where(heat == F.max_pool2d(heat, k, 1, k // 2), heat, torch.zeros_like(heat))
        value, cell = top.flatten(2).topk(self.codec.max_people, dim=2)
        y = cell // wide
        x, heat = cell - y * wide, heat.flatten(2)

        def at(column: Tensor, row: Tensor) -> Tensor:
            return heat.gather(2, row.clamp(0, high - 1) * wide + column.clamp(0, wide - 1))

        across, down = x.float(), y.float()
        if self.codec.adjust:
            across = across + 0.25 + 0.5 * (at(x + 1, y) > at(x - 1, y)).float()
            down = down + 0.25 + 0.5 * (at(x, y + 1) > at(x, y - 1)).float()
        return [torch.stack([across, down, value, tags.flatten(2).gather(2, cell)], 3)]


def _resized(maps: Tensor, size: Any) -> Tensor:
    return F.interpolate(maps, size=(size[0], size[1]), mode="bilinear", align_corners=False)


class CropPeaks(nn.Module):
    """`network` for crops -> [(n, J, 3)]: x, y (map pixels, sub-pixel) and value of the highest peak of every joint."""

    def __init__(self, network: Any, codec: TopDown) -> None:
        super().__init__()
        self.network, self.codec = network, codec
        side = int(6 * codec.sigma - 1) | 1
        kernel = torch.from_numpy(cv2.getGaussianKernel(side, codec.sigma, cv2.CV_32F)).flatten()
        self.register_buffer("down", kernel.view(1, 1, side, 1))
        self.register_buffer("across", kernel.view(1, 1, 1, side))

    def forward(self, images: Tensor) -> list[Tensor]:
        heat = self.network(images)[-1]
        n, joints, high, wide = heat.shape
        value, cell = heat.flatten(2).topk(1, dim=2)
        y, how = cell // wide, self.codec.decode_with
        x = cell - y * wide
        if how != "shift":
            pad, flat = self.down.shape[2] // 2, heat.reshape(-1, 1, high, wide)  # type: ignore[union-attr,operator]
            flat = F.conv2d(F.conv2d(flat, self.down, padding=(pad, 0)), self.across, padding=(0, pad))  # type: ignore[arg-type]
            heat = flat.reshape(n, joints, high, wide).clamp(min=1e-10).log()
        flat = heat.flatten(2)

        def at(dx: int, dy: int) -> Tensor:
            return flat.gather(2, (y + dy).clamp(0, high - 1) * wide + (x + dx).clamp(0, wide - 1))

        step = _quarter(at) if how == "shift" else _newton(at, 2 if how == "dark" else 1)
        least, reach = (2, 1) if how == "shift" else (2, 2) if how == "dark" else (1, 1)
        inside = [(v >= least) & (v < side - reach) for v, side in ((x, wide), (y, high))]
        if how == "shift":
            inside = [inside[0] & inside[1]] * 2
        moved = [v.float() + s * i.float() for v, s, i in zip((x, y), step, inside, strict=True)]
        return [torch.cat([*moved, value], 2)]


def _quarter(at: Any) -> tuple[Tensor, Tensor]:
    """A quarter pixel toward the higher neighbour."""
    return 0.25 * torch.sign(at(1, 0) - at(-1, 0)), 0.25 * torch.sign(at(0, 1) - at(0, -1))


def _newton(at: Any, r: int) -> tuple[Tensor, Tensor]:
    """Step to the top of the quadratic through the values around a peak; see `codecs.heatmap`."""
    middle = at(0, 0)
    dx, dy = (at(1, 0) - at(-1, 0)) / 2, (at(0, 1) - at(0, -1)) / 2
    dxx = (at(r, 0) - 2 * middle + at(-r, 0)) / r**2
    dyy = (at(0, r) - 2 * middle + at(0, -r)) / r**2
    dxy = (at(1, 1) - at(1, -1) - at(-1, 1) + at(-1, -1)) / 4
    det = dxx * dyy - dxy * dxy
    top = ((det > 1e-9) & (dxx < 0)).float()
    safe = det * top + (1 - top)
    across, down = (dxy * dy - dyy * dx) / safe * top, (dxy * dx - dxx * dy) / safe * top
    return across.clamp(-1, 1), down.clamp(-1, 1)


def with_peaks(network: Any, codec: Any) -> nn.Module:
    """The network with its peaks found behind it, in eval mode."""
    if isinstance(codec, BottomUp):
        return WholePeaks(network, codec).eval()
    return CropPeaks(network, codec).eval()
