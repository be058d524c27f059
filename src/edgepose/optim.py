"""Optimisers over parameter groups, learning-rate schedules, and the averaged copy of a network."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from edgepose.models._binary import BinaryConv

OPTIMISERS = {"adamw": torch.optim.AdamW, "adam": torch.optim.Adam}
SCHEDULES = ("linear", "cosine", "step", "constant")


def rate(
    step: int, steps: int, lr: float, schedule: str = "linear", warmup: int = 0, decay: float = 1.0,
    milestones: Sequence[float] = (), floor: float = 0.0,
) -> float:  # fmt: skip
    """Learning rate at `step` of `steps`, after a linear warm-up over `warmup` steps.

    schedule: "linear" holds `lr` until the last `decay` share of the run, then falls to `floor`; "cosine" falls over
    the whole run; "step" is divided by ten at each of `milestones` (shares of the run); "constant" stays.
    """
    warm = min(1.0, (step + 1) / max(1, warmup))
    if schedule == "step":
        return lr * warm * 0.1 ** sum(step >= share * steps for share in milestones)
    if schedule == "constant":
        return lr * warm
    if schedule == "cosine":
        done = min(1.0, max(0.0, (step - warmup) / max(1, steps - warmup)))
        return warm * (floor + (lr - floor) * (1 + math.cos(math.pi * done)) / 2)
    left = min(1.0, max(0.0, (steps - step) / max(1.0, decay * steps)))
    return warm * (floor + (lr - floor) * left)


def groups(net: nn.Module, weight_decay: float, layer_decay: float = 1.0) -> list[dict[str, Any]]:
    """Parameter groups with a `scale` of the learning rate: matrices and kernels decay, biases, norms and the latent
    weights of binary convolutions do not (smaller ones would only flip more often).

    layer_decay: below 1, a parameter of layer d of D learns at layer_decay ** (D - d) of the rate (BEiT, ViTPose). The
    network says which layer a parameter is in: `net.layers() -> {parameter name: d}`; `ValueError` if it cannot.
    """
    depth: dict[str, int] = {}
    if layer_decay != 1:
        if not callable(getattr(net, "layers", None)):
            raise ValueError(f"layer_decay = {layer_decay}: {type(net).__name__} does not number its layers; use 1")
        depth = net.layers()  # type: ignore[operator]
    latent = {id(m.weight) for m in net.modules() if isinstance(m, BinaryConv) and not m.real}
    last, found = max(depth.values(), default=0), dict[tuple[float, float], list[nn.Parameter]]()
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            scale = layer_decay ** (last - depth.get(name, last))
            decays = parameter.ndim >= 2 and id(parameter) not in latent
            found.setdefault((weight_decay if decays else 0.0, scale), []).append(parameter)
    return [{"params": p, "weight_decay": decay, "scale": scale} for (decay, scale), p in found.items()]


def make(net: nn.Module, name: str, lr: float, weight_decay: float, layer_decay: float = 1.0) -> torch.optim.Optimizer:
    """The optimiser `name` over `groups`; `ValueError` lists the known ones."""
    parts = groups(net, weight_decay, layer_decay)
    if name == "muon":
        return Muon(parts, net, lr)
    if name not in OPTIMISERS:
        raise ValueError(f"no optimiser called {name!r}; known: muon, {', '.join(OPTIMISERS)}")
    return OPTIMISERS[name](parts, lr=lr)


class Muon(torch.optim.AdamW):
    """Muon (Jordan et al., 2024) for dense convolutions and matrices inside the network, AdamW for all else.

    The momentum of a kernel, seen as a matrix (output channels, rest), is replaced by the nearest semi-orthogonal
    matrix, scaled so that its entries are as large as AdamW's usual steps (Liu et al., arXiv 2502.16982): so the same
    learning rate and weight decay serve both. The first convolution, depthwise kernels and layers that end in maps
    (their names begin with "final" or "head") stay with AdamW.
    """

    def __init__(self, parts: list[dict[str, Any]], net: nn.Module, lr: float, momentum: float = 0.95) -> None:
        super().__init__(parts, lr=lr)
        self.momentum = momentum
        self.turned: dict[int, bool] = {}  # id of a parameter -> whether its first axis is the input
        first = True
        for name, module in net.named_modules():
            dense = isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) and module.groups == 1
            if (dense or isinstance(module, nn.Linear)) and not name.startswith(("final", "head")):
                if not first:
                    self.turned[id(module.weight)] = isinstance(module, nn.ConvTranspose2d)
                first = False

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """One step; gradients of the matrices are used up."""
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None or id(p) not in self.turned:
                    continue
                state = self.state[p]
                if "momentum" not in state:
                    state["step"] = torch.zeros(())  # AdamW looks for it when a state is loaded
                    state["momentum"] = torch.zeros_like(p)
                mean = state["momentum"].lerp_(p.grad, 1 - self.momentum)
                ahead = p.grad.lerp(mean, self.momentum)
                ahead = ahead.transpose(0, 1) if self.turned[id(p)] else ahead
                matrix = ahead.reshape(len(ahead), -1)
                change = (orthogonal(matrix) * (0.2 * max(matrix.shape) ** 0.5)).view(ahead.shape)
                change = change.transpose(0, 1) if self.turned[id(p)] else change
                p.mul_(1 - group["lr"] * group["weight_decay"]).add_(change, alpha=-group["lr"])
                p.grad = None
        return super().step(closure)


def orthogonal(matrix: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Roughly the nearest semi-orthogonal matrix, by Newton-Schulz steps of fifth order (Jordan et al., 2024)."""
    x = matrix / (matrix.norm() + 1e-7)
    wide = x.shape[0] > x.shape[1]
    x = x.T if wide else x
    for _ in range(steps):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if wide else x


@torch.no_grad()
def average(ema: nn.Module, net: nn.Module, decay: float) -> None:
    """Move `ema` towards `net`: floating tensors (BatchNorm statistics too) by 1 - decay, counters wholly."""
    for mean, new in zip(ema.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new.to(mean), 1 - decay)
        else:
            mean.copy_(new)
