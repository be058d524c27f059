"""HRNet: deep high-resolution representation learning for human pose estimation (Sun et al., CVPR 2019, 1902.09212).

A trunk that keeps a branch at 1/4 of the input from end to end, adds branches at 1/8, 1/16 and 1/32, and lets all
exchange what they know (section 3, figure 1); a 1x1 convolution on the finest branch. Module names follow the official
checkpoints, so those load by key. `forward(images (n, 3, h, w)) -> [(n, J, h/4, w/4)]`, one heatmap a joint of the
person the crop shows; h and w are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from typing import Any

from torch import Tensor, add, nn

from edgepose.codecs.topdown import TopDown
from edgepose.models._blocks import BasicBlock, Bottleneck, init_small, residuals
from edgepose.models._keys import bare, count, load_trunk
from edgepose.skeleton import Skeleton

Blocks = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Arch:
    """Sizes of an HRNet.

    width: channels of the finest branch; each coarser one has twice as many. planes: of the bottlenecks in front.
    modules: exchanges in stages 2, 3 and 4. blocks: residual blocks per branch, finest first, in stages 2, 3 and 4.
    """

    joints: int = 17
    width: int = 32
    planes: int = 64
    modules: tuple[int, ...] = (1, 4, 3)
    blocks: Blocks = ((4, 4), (4, 4, 4), (4, 4, 4, 4))

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", tuple(self.modules))  # JSON gives lists
        object.__setattr__(self, "blocks", tuple(map(tuple, self.blocks)))
        check_trunk(self.modules, self.blocks)


def check_trunk(modules: tuple[int, ...], blocks: Blocks) -> None:
    """`ValueError` unless there are modules and blocks for 2, 3 and 4 branches."""
    if len(modules) != 3 or min(modules) < 1 or [len(b) for b in blocks] != [2, 3, 4]:
        raise ValueError(f"HRNet has 3 stages of 2, 3 and 4 branches; got modules {modules}, blocks {blocks}")


def conv_bn(a: int, b: int, kernel: int, stride: int = 1, relu: bool = True) -> list[nn.Module]:
    """Convolution without bias, BatchNorm and, unless `relu` is False, ReLU."""
    conv = nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False)
    return [conv, nn.BatchNorm2d(b), *([nn.ReLU(inplace=True)] if relu else [])]


@dataclass(frozen=True)
class Parts:
    """What a trunk is put together from; `REAL` is HRNet's own, BiHRNet hands in binary ones.

    front(a, planes): the blocks behind the stem, a -> 4 planes channels. branch(c, blocks): residual blocks.
    change(a, b, stride, first): 3x3 from one stage to the next, `first` behind the front. up(a, b, factor): 1x1 and
    nearest neighbour. down(a, b, last): 3x3 of stride 2, the last of its row or not. act(c): behind a sum of branches.
    """

    front: Callable[[int, int], nn.Module]
    branch: Callable[[int, int], nn.Module]
    change: Callable[[int, int, int, bool], nn.Module]
    up: Callable[[int, int, int], nn.Module]
    down: Callable[[int, int, bool], nn.Module]
    act: Callable[[int], nn.Module]


def real_branch(c: int, blocks: int) -> nn.Module:
    """Basic blocks; none of them is one 3x3 convolution with ReLU6 (the LitePose authors' shrunken networks)."""
    if blocks:
        return residuals(BasicBlock, c, c, blocks)
    return nn.Sequential(*conv_bn(c, c, 3, relu=False), nn.ReLU6(inplace=True))


REAL = Parts(
    front=lambda a, planes: residuals(Bottleneck, a, planes, 4),
    branch=real_branch,
    change=lambda a, b, stride, first: nn.Sequential(*conv_bn(a, b, 3, stride)),
    up=lambda a, b, factor: nn.Sequential(*conv_bn(a, b, 1, relu=False), nn.Upsample(scale_factor=factor)),
    down=lambda a, b, last: nn.Sequential(*conv_bn(a, b, 3, 2, relu=not last)),
    act=lambda c: nn.ReLU(inplace=True),
)


class Exchange(nn.Module):
    """Residual blocks on every branch, then each output is the sum of all branches at its resolution (section 3).

    widths, blocks: per branch, finest first. outputs: how many branches go on, the finest ones; the last module of a
    trunk has one.
    """

    def __init__(self, widths: list[int], blocks: tuple[int, ...], outputs: int, parts: Parts) -> None:
        super().__init__()
        self.branches = nn.ModuleList(parts.branch(c, n) for c, n in zip(widths, blocks, strict=True))
        self.fuse_layers = nn.ModuleList(
            nn.ModuleList(resample(widths, j, i, parts) for j in range(len(widths))) for i in range(outputs)
        )
        self.acts = nn.ModuleList(parts.act(c) for c in widths[:outputs])

    def forward(self, xs: list[Tensor]) -> list[Tensor]:
        xs = [branch(x) for branch, x in zip(self.branches, xs, strict=True)]
        rows: Any = zip(self.fuse_layers, self.acts, strict=True)
        return [act(reduce(add, [fuse(x) for fuse, x in zip(row, xs, strict=True)])) for row, act in rows]


def resample(widths: list[int], j: int, i: int, parts: Parts) -> nn.Module:
    """Branch `j` at the resolution and width of branch `i`: 1x1 and nearest neighbour up, 3x3 of stride 2 down."""
    if i == j:
        return nn.Identity()
    if i < j:
        return parts.up(widths[j], widths[i], 2 ** (j - i))
    halvings = [parts.down(widths[j], widths[j], False) for _ in range(i - j - 1)]
    return nn.Sequential(*halvings, parts.down(widths[j], widths[i], True))


def transition(before: list[int], after: list[int], parts: Parts) -> nn.ModuleList:
    """From the branches of one stage to those of the next, which has one more: 3x3, of stride 2 for the new one."""
    first = len(before) == 1
    pairs = zip(before, after, strict=False)
    same = [nn.Identity() if a == b else parts.change(a, b, 1, first) for a, b in pairs]
    return nn.ModuleList([*same, nn.Sequential(parts.change(before[-1], after[-1], 2, first))])


def add_stem(net: Any) -> None:
    """Give `net` the two convolutions in front, 3 -> 64 channels at 1/4 of the input."""
    net.conv1, net.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
    net.conv2, net.bn2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
    net.relu = nn.ReLU(inplace=True)


def add_body(net: Any, width: int, planes: int, modules: tuple[int, ...], blocks: Blocks, parts: Parts = REAL) -> None:
    """Give `net` what follows the stem, up to the finest branch (`width` channels at 1/4 of the input)."""
    net.layer1 = parts.front(64, planes)
    widths, stages = [4 * planes], []
    for s, (n, per_branch) in enumerate(zip(modules, blocks, strict=True)):
        before, widths = widths, [width << b for b in range(s + 2)]
        outputs = [len(widths)] * n if s < 2 else [len(widths)] * (n - 1) + [1]
        change = transition(before, widths, parts)
        stages.append((change, nn.Sequential(*(Exchange(widths, per_branch, k, parts) for k in outputs))))
    (net.transition1, net.stage2), (net.transition2, net.stage3), (net.transition3, net.stage4) = stages


def add_trunk(net: Any, width: int, planes: int, modules: tuple[int, ...], blocks: Blocks) -> None:
    """Give `net` the modules of HRNet up to its finest branch (`width` channels at 1/4 of the input)."""
    add_stem(net)
    add_body(net, width, planes, modules, blocks)


def run_body(net: Any, x: Tensor) -> Tensor:
    """The finest branch (n, width, h/4, w/4) of what `add_body` gave to `net`, for the stem's (n, 64, h/4, w/4)."""
    xs = [net.layer1(x)]
    for change, stage in ((net.transition1, net.stage2), (net.transition2, net.stage3), (net.transition3, net.stage4)):
        xs = stage([go(x) for go, x in zip(change, [*xs, xs[-1]], strict=True)])
    return xs[0]


def run_trunk(net: Any, images: Tensor) -> Tensor:
    """The finest branch (n, width, h/4, w/4) of the trunk that `add_trunk` gave to `net`."""
    x = net.relu(net.bn1(net.conv1(images)))
    return run_body(net, net.relu(net.bn2(net.conv2(x))))


class HRNet(nn.Module):
    """The network of `Arch`; see the module's docstring for its input and output."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch = arch
        add_trunk(self, arch.width, arch.planes, arch.modules, arch.blocks)
        self.final_layer = nn.Conv2d(arch.width, arch.joints, 1)
        init_small(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        return [self.final_layer(run_trunk(self, images))]


def build(arch: Arch) -> HRNet:
    """The network of `arch`, freshly initialised."""
    return HRNet(arch)


def codec(arch: Arch, skeleton: Skeleton, size: tuple[int, int]) -> TopDown:
    """How the authors' networks read pictures: crops of `size` (w, h) pixels, quarter shift, no UDP.

    At 384x288 their Gaussians are wider, 3 pixels of the heatmap in place of 2.
    """
    return TopDown(skeleton, size, sigma=3.0 if size[1] >= 384 else 2.0)


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: official, or MMPose's with its two prefixes removed."""
    return bare(state)


def infer_trunk(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """`width`, `planes`, `modules` and `blocks` of the trunk in a state dict; `KeyError` or `ValueError` if none."""

    def depth(branch: str) -> int:
        return 0 if f"{branch}0.weight" in state else count(state, branch)

    finest = "stage2.0.branches.0.0."
    return {
        "width": state[finest + ("weight" if finest + "weight" in state else "conv1.weight")].shape[0],
        "planes": state["layer1.0.conv1.weight"].shape[0],
        "modules": tuple(count(state, f"stage{s}.") for s in (2, 3, 4)),
        "blocks": tuple(tuple(depth(f"stage{s}.0.branches.{b}.") for b in range(s)) for s in (2, 3, 4)),
    }


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict in the official layout; `ValueError` if it is none."""
    try:
        return Arch(state["final_layer.weight"].shape[0], **infer_trunk(state))
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not an HRNet checkpoint: {error}") from error


def load_imagenet(net: HRNet, path: str) -> None:
    """Start the trunk of `net` from the authors' ImageNet file of the same width; `ValueError` if it does not fit."""
    load_trunk(net, path, ("final_layer.",), f"HRNet-W{net.arch.width}")


W32, W48 = Arch(), Arch(width=48)
ARCHS = {  # name -> (Arch, input (w, h) in pixels); 256x256 is MPII's, with its 16 joints
    "w32": (W32, (192, 256)),
    "w48": (W48, (192, 256)),
    "w32-384x288": (W32, (288, 384)),
    "w48-384x288": (W48, (288, 384)),
    "w32-256x256": (replace(W32, joints=16), (256, 256)),
    "w48-256x256": (replace(W48, joints=16), (256, 256)),
}
