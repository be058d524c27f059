"""BiHRNet: a binary high-resolution network for human pose estimation (Zhang et al., arXiv 2311.10296, 2023).

Only the abstract could be read: a binary HRNet, an "IR Bottleneck" in the first stage, "MS-Block"s on the branches, a
loss of KL divergence and AWing. All else is inferred from the literature on binary networks (docs/papers/bihrnet.md),
so every doubtful choice is a field of `Arch`. Names of modules are HRNet's; a `Unit` stands for a convolution.
`forward(images (n, 3, h, w)) -> [(n, J, h/4, w/4)]`, one heatmap a joint; h and w are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from edgepose.checkpoint import read_state
from edgepose.codecs.topdown import TopDown
from edgepose.models import hrnet
from edgepose.models._binary import Merge, RPReLU, Unit, configure
from edgepose.models._binary import adopt as take_over
from edgepose.models._binary_blocks import BOTH, RECENTRE, SCALES, Bottleneck, Hierarchical, Residual
from edgepose.models._blocks import init_small, residuals
from edgepose.models._keys import bare, count
from edgepose.models.hrnet import Blocks, Parts, add_body, add_stem, check_trunk, conv_bn, run_body
from edgepose.skeleton import Skeleton

FRONTS = ("ir-a", "ir-b", "ir-c", "plain", "real")
BLOCKS = ("ms-a", "ms-b", "ms-c", "plain")
FUSES = ("binary", "up-real", "real")
TRANSITIONS = ("binary", "first-real", "real")


@dataclass(frozen=True)
class Arch:
    """Sizes as in `hrnet.Arch`, and what is binary how.

    front: the four blocks behind the stem: "ir-a" bottlenecks with a shortcut around every convolution, "ir-b" those
    with a real gate, "ir-c" hierarchical blocks, "plain" binary bottlenecks, "real" HRNet's own. block: of the
    branches: "ms-a" 3x3 of dilation 1 and 2, "ms-b" hierarchical, "ms-c" 3x3 and 1x1 added, "plain" 3x3 (Bi-Real).
    binary_stem: the second convolution of the stem too. transition, fuse: real or not; "first-real" is the 3x3 behind
    the front, "up-real" the 1x1 convolutions. real_weights: binary activations alone, the first of two steps of
    training. centred: weights lose their mean before the sign.
    """

    joints: int = 17
    width: int = 32
    planes: int = 64
    modules: tuple[int, ...] = (1, 4, 3)
    blocks: Blocks = ((4, 4), (4, 4, 4), (4, 4, 4, 4))
    front: str = "ir-a"
    block: str = "ms-a"
    binary_stem: bool = False
    transition: str = "binary"
    fuse: str = "binary"
    real_weights: bool = False
    centred: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", tuple(self.modules))  # JSON gives lists
        object.__setattr__(self, "blocks", tuple(map(tuple, self.blocks)))
        check_trunk(self.modules, self.blocks)
        for name, known in (("front", FRONTS), ("block", BLOCKS), ("transition", TRANSITIONS), ("fuse", FUSES)):
            if getattr(self, name) not in known:
                raise ValueError(f"no {name} called {getattr(self, name)!r}; known: {', '.join(known)}")


def real_conv(a: int, b: int, kernel: int, stride: int = 1, act: bool = True) -> list[nn.Module]:
    """HRNet's convolution and BatchNorm, with RPReLU for ReLU: a sign behind a ReLU would say little."""
    return [*conv_bn(a, b, kernel, stride, relu=False), *([RPReLU(b)] if act else [])]


def front(kind: str, shift: float, a: int, planes: int) -> nn.Sequential:
    """The four blocks behind the stem, a -> 4 planes channels; shift: where the first signs begin."""
    if kind == "real":
        return residuals(hrnet.Bottleneck, a, planes, 4)
    if kind == "ir-c":
        return nn.Sequential(*(Hierarchical(a if i == 0 else 4 * planes, 4 * planes, 0.0) for i in range(4)))
    block = partial(Bottleneck, inner=kind != "plain", gate=kind == "ir-b")
    return nn.Sequential(block(a, planes, shift=shift), *(block(4 * planes, planes) for _ in range(3)))


def block(kind: str) -> Callable[[int], nn.Module]:
    """What makes one block of a branch from its number of channels."""
    if kind == "ms-b":
        return lambda c: Hierarchical(c, c)
    paths = {"ms-a": SCALES, "ms-c": BOTH, "plain": ((3, 1),)}[kind]
    return lambda c: Residual(c, c, paths=paths, summed=kind == "ms-c")


def parts(arch: Arch) -> Parts:
    """What the body of BiHRNet is put together from."""
    made = block(arch.block)
    stem_shift = 0.0 if arch.binary_stem else RECENTRE
    front_shift = RECENTRE if arch.front == "real" else 0.0

    def branch(c: int, blocks: int) -> nn.Module:
        return nn.Sequential(*([made(c) for _ in range(blocks)] or [Unit(c, c)]))

    def change(a: int, b: int, stride: int, first: bool) -> nn.Module:
        if arch.transition == "real" or (arch.transition == "first-real" and first):
            return nn.Sequential(*real_conv(a, b, 3, stride))
        return Unit(a, b, stride=stride, shift=front_shift if first else 0.0)

    def up(a: int, b: int, factor: int) -> nn.Module:
        conv = real_conv(a, b, 1, act=False) if arch.fuse != "binary" else [Unit(a, b, ((1, 1),), act=False)]
        return nn.Sequential(*conv, nn.Upsample(scale_factor=factor))

    def down(a: int, b: int, last: bool) -> nn.Module:
        if arch.fuse == "real":
            return nn.Sequential(*real_conv(a, b, 3, 2, act=not last))
        return Unit(a, b, stride=2, act=not last)

    return Parts(partial(front, arch.front, stem_shift), branch, change, up, down, Merge)


def run_stem(net: Any, images: Tensor, binary: bool) -> Tensor:
    """(n, 3, h, w) -> (n, 64, h/4, w/4)."""
    x = net.conv2(net.relu(net.bn1(net.conv1(images))))
    return x if binary else net.relu(net.bn2(x))


class BiHRNet(nn.Module):
    """The network of `Arch`; see the module's docstring for its input and output."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch = arch
        add_stem(self)
        if arch.binary_stem:
            self.conv2: nn.Module = Unit(64, 64, stride=2, shift=RECENTRE)
            del self.bn2
        add_body(self, arch.width, arch.planes, arch.modules, arch.blocks, parts(arch))
        self.final_layer = nn.Conv2d(arch.width, arch.joints, 1)
        init_small(self)
        configure(self, arch.real_weights, arch.centred)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.final_layer(run_body(self, run_stem(self, images, self.arch.binary_stem)))]


def build(arch: Arch) -> BiHRNet:
    """The network of `arch`, freshly initialised."""
    return BiHRNet(arch)


def codec(arch: Arch, skeleton: Skeleton, size: tuple[int, int]) -> TopDown:
    """How the network reads pictures: as HRNet does."""
    return hrnet.codec(hrnet.Arch(), skeleton, size)


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here (the authors' are not known)."""
    return bare(state)


LAST = ("act.rise", "act.act.rise", "bn3.weight")  # with as many values as the front has channels


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict; `ValueError` if it is none.

    `real_weights` and `centred` leave no trace in the shapes and are taken to be False.
    """
    try:
        first, branch, exchange = "layer1.0.", "stage2.0.branches.0.0.", "stage2.0.fuse_layers."
        wide = [state[k] for k in (branch + "conv2.bn.weight", branch + "act.rise", branch + "bn.weight") if k in state]
        return Arch(
            joints=state["final_layer.weight"].shape[0],
            width=wide[0].shape[0],
            planes=next(state[first + k].shape[0] for k in LAST if first + k in state) // 4,
            modules=tuple(count(state, f"stage{s}.") for s in (2, 3, 4)),
            blocks=tuple(tuple(_depth(state, f"stage{s}.0.branches.{b}.") for b in range(s)) for s in (2, 3, 4)),
            front=_front(state, first),
            block=_block(state),
            binary_stem="conv2.sign.shift" in state,
            transition=_transition(state),
            fuse="real" if exchange + "1.0.0.0.weight" in state else "up-real" if exchange + "0.1.0.weight" in state
            else "binary",
        )  # fmt: skip
    except (KeyError, ValueError, IndexError, StopIteration) as error:
        raise ValueError(f"not a BiHRNet checkpoint: {error}") from error


def _depth(state: Mapping[str, Tensor], branch: str) -> int:
    return 0 if f"{branch}0.sign.shift" in state else count(state, branch)


def _front(state: Mapping[str, Tensor], first: str) -> str:
    if first + "bns.0.weight" in state:
        return "ir-c"
    if first + "conv3.act.rise" in state:
        return "ir-b" if first + "gate.up.weight" in state else "ir-a"
    return "plain" if first + "conv3.bn.weight" in state else "real"


def _block(state: Mapping[str, Tensor]) -> str:
    """Of the first branch that has blocks."""
    if any(".branches." in key and ".bns." in key for key in state):
        return "ms-b"
    second = next((v for k, v in state.items() if ".branches." in k and k.endswith("conv1.convs.1.weight")), None)
    return "plain" if second is None else "ms-a" if second.shape[-1] == 3 else "ms-c"


def _transition(state: Mapping[str, Tensor]) -> str:
    if "transition2.2.0.0.weight" in state:
        return "real"
    return "first-real" if "transition1.0.0.weight" in state else "binary"


def adopt(net: BiHRNet, state: Mapping[str, Tensor], what: str) -> None:
    """Start from a trained HRNet of the same width (kernels where shapes agree, stem and last layer whole), or from
    another BiHRNet; `ValueError` if `what`, the file of `state`, has nothing that fits."""
    take_over(net, native(state), what)


def load_imagenet(net: BiHRNet, path: str) -> None:
    """`adopt` from a file: HRNet's ImageNet weights, or a trained HRNet's."""
    adopt(net, read_state(path)[0], path)


W32, W48 = Arch(), Arch(width=48)
ARCHS = {  # name -> (Arch, input (w, h) in pixels); 256x256 is MPII's, with its 16 joints
    "w32": (W32, (192, 256)),
    "w48": (W48, (192, 256)),
    "w32-384x288": (W32, (288, 384)),
    "w48-384x288": (W48, (288, 384)),
    "w32-256x256": (replace(W32, joints=16), (256, 256)),
    "w48-256x256": (replace(W48, joints=16), (256, 256)),
}
