"""Operations: what a network costs when some of its convolutions are binary."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from edgepose.cost import cost
from edgepose.models._binary import BinaryConv, Merge, RPReLU, RSign, Unit


@dataclass(frozen=True)
class Operations:
    """What one picture costs, and what the network weighs.

    macs: multiply-adds of real numbers. bops: of signs. elementwise: real additions, multiplications and comparisons of
    signs, BatchNorms, shortcuts and RPReLUs behind or before binary convolutions; they are not counted in `ops`, as is
    usual. bits: binary weights. real: other learned numbers, each of 4 bytes. macs_paper: as `cost.Cost`.
    """

    macs: int
    bops: int
    elementwise: int
    bits: int
    real: int
    macs_paper: int

    @property
    def params(self) -> int:
        """Learned numbers of either kind."""
        return self.bits + self.real

    @property
    def ops(self) -> float:
        """Real multiply-adds and 1/64 of the binary ones (Bi-Real Net, section 4.3)."""
        return self.macs + self.bops / 64

    @property
    def bytes(self) -> float:
        """Binary weights in bits, all other parameters in float32."""
        return self.bits / 8 + 4 * self.real

    @property
    def gmacs(self) -> float:
        """`macs` in units of 10^9, to three decimals."""
        return round(self.macs / 1e9, 3)

    @property
    def gmacs_paper(self) -> float:
        """`macs_paper` in units of 10^9, to three decimals; binary convolutions are none of it."""
        return round(self.macs_paper / 1e9, 3)

    @property
    def gops(self) -> float | None:
        """`ops` in units of 10^9, to three decimals; None where nothing is binary."""
        return round(self.ops / 1e9, 3) if self.bits else None


def operations(network: nn.Module, size: tuple[int, int]) -> Operations:
    """Operations of `network` in eval mode on one RGB picture of `size` (height, width); `network` is not touched.

    Weights that are still real (`BinaryConv.real`) count as real.
    """
    found = cost(network, size)
    twin: Any = deepcopy(network).to("meta").eval()
    sums = {"bops": 0, "elementwise": 0, "bits": 0}

    def conv(module: BinaryConv, _: Any, out: torch.Tensor) -> None:
        if not module.real:
            sums["bops"] += out.numel() * module.weight[0].numel()
        sums["elementwise"] += 2 * out.numel()  # scale and BatchNorm in one

    def each(times: int) -> Any:
        return lambda module, _, out: sums.update(elementwise=sums["elementwise"] + times * out.numel())

    for module in twin.modules():
        if isinstance(module, BinaryConv):
            module.register_forward_hook(conv)
            sums["bits"] += 0 if module.real else module.weight.numel()
        elif isinstance(module, RSign):
            module.register_forward_hook(each(1))
        elif isinstance(module, RPReLU):
            module.register_forward_hook(each(3))
        elif isinstance(module, Merge):
            module.register_forward_hook(each(2))
        elif isinstance(module, Unit) and module.shortcut is not None:
            module.register_forward_hook(each(1))
    with torch.no_grad():
        twin(torch.empty(1, 3, *size, device="meta"))
    real = found.params - sums["bits"]
    return Operations(
        found.macs - sums["bops"], sums["bops"], sums["elementwise"], sums["bits"], real, found.macs_paper
    )
