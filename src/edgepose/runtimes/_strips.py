"""Wide depthwise convolutions as sums of row strips, for engines that are only fast up to 25 taps (XNNPACK)."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

TAPS = 25  # of a depthwise kernel that XNNPACK has a fast path for; 7x7 has 49


class Strips(nn.Module):
    """The depthwise `conv` as a sum of convolutions with a few rows of its kernel each, whose weights are constants.

    Exact but for the order of the sums: (x * K)(i) = sum over strips of (x, moved up by the strip's first row * rows).
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        (high, wide), (py, px) = conv.kernel_size, conv.padding  # type: ignore[misc]
        rows, self.pad = max(1, TAPS // wide), (int(py), int(py))
        self.parts, self.spans = nn.ModuleList(), []
        for start in range(0, high, rows):
            end = min(start + rows, high)
            part = nn.Conv2d(
                conv.in_channels, conv.out_channels, (end - start, wide), conv.stride, (0, int(px)),  # type: ignore[arg-type]
                groups=conv.groups, bias=conv.bias is not None and start == 0,
            )  # fmt: skip
            part.weight.data = conv.weight.data[:, :, start:end].clone()
            if part.bias is not None and conv.bias is not None:
                part.bias.data = conv.bias.data.clone()
            self.parts.append(part)
            self.spans.append((start, high - end))

    def forward(self, x: Tensor) -> Tensor:
        x = F.pad(x, (0, 0, *self.pad))
        height = x.shape[2]
        first, *rest = [part(x[:, :, a : height - b]) for part, (a, b) in zip(self.parts, self.spans, strict=True)]
        for part in rest:
            first = first + part
        return first


def split(network: Any) -> Any:
    """A copy of a torch network in eval mode, its depthwise convolutions of more than `TAPS` taps as `Strips`.

    Norms behind them are folded first, so that the strips' sum needs none.
    """
    network = copy.deepcopy(network)
    for parent in list(network.modules()):
        children = list(parent.named_children())
        for i, (name, child) in enumerate(children):
            if not isinstance(child, nn.Conv2d) or child.groups != child.in_channels or child.groups == 1:
                continue
            if child.kernel_size[0] * child.kernel_size[1] <= TAPS or child.dilation != (1, 1):
                continue
            if isinstance(parent, nn.Sequential) and i + 1 < len(children):
                next_name, norm = children[i + 1]
                if isinstance(norm, nn.BatchNorm2d):
                    child = fuse_conv_bn_eval(child, norm)
                    setattr(parent, next_name, nn.Identity())
            setattr(parent, name, Strips(child))
    return network
