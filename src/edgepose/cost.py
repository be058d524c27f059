"""Cost: exact parameters and multiply-adds of a network, without running it on real numbers."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode


@dataclass(frozen=True)
class Cost:
    """What one picture costs.

    params: learned numbers. macs: multiply-adds of convolutions and matrix products; a transposed convolution is
    counted at its input positions, where the work is. macs_paper: the same network as ptflops 0.6.9 counts it, which
    is what the LitePose paper prints: transposed convolutions at their output positions (4 times the work at stride
    2), biases, 2 per element of a BatchNorm, 1 per element of a ReLU, ReLU6 or `nn.Upsample`.
    """

    params: int
    macs: int
    macs_paper: int

    @property
    def gmacs(self) -> float:
        """`macs` in units of 10^9, to three decimals."""
        return round(self.macs / 1e9, 3)

    @property
    def gmacs_paper(self) -> float:
        """`macs_paper` in units of 10^9, to three decimals."""
        return round(self.macs_paper / 1e9, 3)


def cost(network: nn.Module, size: tuple[int, int], channels: int = 3) -> Cost:
    """Cost of `network` in eval mode on one picture of `size` (height, width) pixels; `network` is not touched.

    channels: 3 for RGB pictures; those of its input, for a part of a network.
    """
    twin = deepcopy(network).to("meta").eval()
    paper = 0

    def add(module: nn.Module, _: tuple[Tensor, ...], output: Tensor) -> None:
        nonlocal paper
        paper += _ptflops(module, output)

    for module in twin.modules():
        module.register_forward_hook(add)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        twin(torch.empty(1, channels, *size, device="meta", dtype=_dtype(twin)))
    params = sum(p.numel() for p in network.parameters())
    return Cost(params, counter.get_total_flops() // 2, paper)


def _ptflops(module: nn.Module, output: Tensor) -> int:
    """Multiply-adds of one module by the counting rule of ptflops 0.6.9."""
    match module:
        case nn.Conv2d() | nn.ConvTranspose2d():
            weights = prod(module.kernel_size) * module.in_channels * module.out_channels // module.groups
            bias = 0 if module.bias is None else output.numel()
            return output.shape[0] * prod(output.shape[2:]) * weights + bias
        case nn.Linear():
            return output.numel() * (module.in_features + (module.bias is not None))
        case nn.BatchNorm2d():
            return 2 * output.numel()
        case nn.ReLU() | nn.ReLU6() | nn.Upsample():
            return output.numel()
    return 0


def _dtype(network: nn.Module) -> torch.dtype:
    return next((p.dtype for p in network.parameters()), torch.float32)
