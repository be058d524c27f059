"""Binary layers: convolutions of signs with signs, and what lets them learn.

The unit is that of ReActNet (Liu et al., ECCV 2020) with a shortcut around every convolution (Bi-Real Net, Liu et al.,
ECCV 2018): y = RPReLU(BN(alpha conv(sign(x + b), sign(W))) + shortcut(x)). Borders are -1, not 0, so that one bit a
value is enough, and sign(0) = +1. Where the numbers of channels differ the shortcut repeats channels or takes means of
them, without weights (the channel-adaptive bypass of BiDense, Yin et al., arXiv 2411.10346).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

Paths = tuple[tuple[int, int], ...]  # (kernel, dilation) of convolutions side by side


def signs(x: Tensor) -> Tensor:
    """+1 where x >= 0, else -1, in the type of x."""
    return torch.sign(x).add_(0.5).sign_()  # torch.sign gives 0 for 0; `where` is several times slower


class Sign(torch.autograd.Function):
    """+1 where x >= 0, else -1. Its slope is taken for that of a piecewise quadratic: 2 + 2x on [-1, 0), 2 - 2x on
    [0, 1), 0 outside (Bi-Real Net, equation 6)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return signs(x)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (x,) = ctx.saved_tensors
        return grad * (2 - 2 * x.abs()).clamp_(min=0)


class WeightSign(torch.autograd.Function):
    """+1 where w >= 0, else -1. The gradient passes straight through where |w| <= 1 (that of clip(w, -1, 1))."""

    @staticmethod
    def forward(ctx: Any, w: Tensor) -> Tensor:
        ctx.save_for_backward(w)
        return signs(w)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        (w,) = ctx.saved_tensors
        return grad * (w.abs() <= 1)


class ChannelPReLU(torch.autograd.Function):
    """PReLU of (n, c, h, w) with `slope` (c); its backward pass is a third of torch's own on a CPU."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slope: Tensor) -> Tensor:
        ctx.save_for_backward(x, slope)
        return functional.prelu(x, slope)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, slope = ctx.saved_tensors
        passed = grad * (x > 0)
        return passed + (grad - passed) * slope.view(-1, 1, 1), (grad * x.clamp(max=0)).sum((0, 2, 3))


class RSign(nn.Module):
    """sign(x + shift), one learnt shift a channel."""

    def __init__(self, channels: int, shift: float = 0.0) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.full((channels,), shift))

    def forward(self, x: Tensor) -> Tensor:
        return Sign.apply(x + self.shift.view(-1, 1, 1))  # type: ignore[return-value]


class RPReLU(nn.Module):
    """PReLU(x + shift) + rise; shift, slope and rise are learnt, one of each a channel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(channels))
        self.slope = nn.Parameter(torch.full((channels,), 0.25))
        self.rise = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        y: Any = ChannelPReLU.apply(x + self.shift.view(-1, 1, 1), self.slope)
        return y + self.rise.view(-1, 1, 1)


class BinaryConv(nn.Module):
    """Convolution of signs (n, a, h, w) with the signs of its weights, times their mean magnitude per filter.

    Borders are -1. centred: each weight first loses the mean over the input channels at its place in the kernel. real:
    the weights are used as they are, the first of two steps of training. Both are attributes, set by `configure`.
    """

    def __init__(self, a: int, b: int, kernel: int, stride: int = 1, dilation: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(b, a, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=5**0.5)
        self.stride, self.dilation, self.padding = stride, dilation, dilation * (kernel // 2)
        self.real = self.centred = False

    def latent(self) -> Tensor:
        """The real numbers whose signs are the weights."""
        return self.weight - self.weight.mean(1, keepdim=True) if self.centred else self.weight

    def forward(self, bits: Tensor) -> Tensor:
        if self.padding:
            bits = functional.pad(bits, (self.padding,) * 4, value=-1.0)
        latent = self.latent()
        if self.real:
            return functional.conv2d(bits, latent, None, self.stride, 0, self.dilation)
        scale = latent.detach().abs().mean((1, 2, 3)).view(-1, 1, 1)
        return functional.conv2d(bits, WeightSign.apply(latent), None, self.stride, 0, self.dilation) * scale


class Bypass(nn.Module):
    """(n, a, h, w) -> (n, b, h / stride, w / stride) without weights: the mean of 2x2 pixels at stride 2; out channel o
    is in channel o mod a (b > a), or the mean of all in channels that are o modulo b (b < a)."""

    def __init__(self, a: int, b: int, stride: int = 1) -> None:
        super().__init__()
        assert stride in (1, 2), stride
        self.a, self.b, self.stride = a, b, stride

    def forward(self, x: Tensor) -> Tensor:
        if self.stride == 2:
            x = functional.avg_pool2d(x, 2)
        if self.a < self.b:
            return torch.cat([x] * -(-self.b // self.a), 1)[:, : self.b]
        if self.a == self.b:
            return x
        groups, left = divmod(self.a, self.b)
        total = torch.stack(x[:, : groups * self.b].split(self.b, 1)).sum(0)
        if not left:
            return total / groups
        more = (total[:, :left] + x[:, groups * self.b :]) / (groups + 1)
        return torch.cat([more, total[:, left:] / groups], 1)


class Unit(nn.Module):
    """y = RPReLU(BN(binary convolutions of RSign(x)) + shortcut(x)); without `act`, what goes into the RPReLU.

    a, b: channels in and out. paths: (kernel, dilation) of convolutions of the same signs, their outputs (b / number of
    paths each) side by side, or, if `summed`, of b channels each and added. shift: where those of RSign begin.
    """

    def __init__(
        self, a: int, b: int, paths: Paths = ((3, 1),), stride: int = 1, shortcut: bool = True, act: bool = True,
        summed: bool = False, shift: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        n = len(paths)
        outs = [b] * n if summed else [b // n + (i < b % n) for i in range(n)]
        self.sign = RSign(a, shift)
        self.convs = nn.ModuleList(BinaryConv(a, o, k, stride, d) for o, (k, d) in zip(outs, paths, strict=True))
        self.summed = summed
        self.bn = nn.BatchNorm2d(b)
        self.shortcut = Bypass(a, b, stride) if shortcut else None
        self.act = RPReLU(b) if act else None

    def forward(self, x: Tensor) -> Tensor:
        bits = self.sign(x)
        parts = [conv(bits) for conv in self.convs]
        y = parts[0] if len(parts) == 1 else sum(parts[1:], parts[0]) if self.summed else torch.cat(parts, 1)
        y = self.bn(y)
        if self.shortcut is not None:
            y = y + self.shortcut(x)
        return y if self.act is None else self.act(y)


class Merge(nn.Module):
    """RPReLU(BN(x)) where two or more real-valued streams were added: without the BatchNorm their sum would grow from
    place to place, until no value is near the threshold of its sign."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.act = RPReLU(channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(x))


def configure(net: nn.Module, real_weights: bool = False, centred: bool = False) -> None:
    """Set `real` and `centred` of every binary convolution in `net`."""
    for module in net.modules():
        if isinstance(module, BinaryConv):
            module.real, module.centred = real_weights, centred


def is_binary(net: nn.Module) -> bool:
    """Whether `net` has a binary convolution."""
    return any(isinstance(module, BinaryConv) for module in net.modules())


@torch.no_grad()
def adopt(net: nn.Module, given: Mapping[str, Tensor], what: str) -> int:
    """Start a binary `net` from a network with real weights and the same names; how many convolutions were taken over.

    Every unit takes the kernel of the convolution in whose place it stands, where their shapes agree; all other tensors
    (stem, last layer) go by key. `ValueError` if `what`, which holds `given`, has no kernel for any unit.
    """
    own = net.state_dict()
    same = {k: v for k, v in given.items() if k in own and own[k].shape == v.shape}
    net.load_state_dict(same, strict=False)
    taken = sum(f"{name}.weight" in same for name, module in net.named_modules() if isinstance(module, BinaryConv))
    for name, unit in net.named_modules():
        if not isinstance(unit, Unit):
            continue
        convs: list[Any] = [unit.convs[0]] if unit.summed else list(unit.convs)
        shape = (sum(len(conv.weight) for conv in convs), *convs[0].weight.shape[1:])
        kernels = [given[k] for k in (f"{name}.weight", f"{name}.0.weight") if k in given and given[k].shape == shape]
        if kernels:
            for conv, part in zip(convs, kernels[0].split([len(conv.weight) for conv in convs]), strict=True):
                conv.weight.copy_(part)
            taken += len(convs)
    if not taken:
        raise ValueError(f"{what} has no kernel that fits a binary convolution of this network")
    return taken
