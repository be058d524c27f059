"""Stacked hourglasses: human pose estimation (Newell et al., ECCV 2016, arXiv 1603.06937).

A stack halves the features four times and doubles them back, with a residual path around every step (section 3.1,
figure 3); each stack but the first sees the features and heatmaps of the one before (section 3.3, figure 4). Two
networks: Newell's, with pre-activated bottlenecks, in the layout of the pytorch-pose checkpoints; and MMPose's
Hourglass-52, wider towards the middle, with basic blocks and strided convolutions, in MMPose's layout.
`forward(images (n, 3, h, w)) -> [(n, J, h/4, w/4)]` once per stack, last stack last, one heatmap a joint of the person
the crop shows; h and w are multiples of 64 (Newell's) or 128.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn
from torch.nn.functional import interpolate, max_pool2d

from edgepose.codecs.topdown import TopDown
from edgepose.models._blocks import BasicBlock, init_small, residuals
from edgepose.models._keys import bare, count
from edgepose.models._parsegraph import Refine, Refinement, inferred, placed
from edgepose.skeleton import Skeleton

UNUSED = ("inters.",)  # weights that the one-stack Hourglass-52 has (1.18 million) and its forward pass does not need
MEAN = (0.4404, 0.4440, 0.4327)  # RGB of MPII; all that pytorch-pose takes off its pictures, it divides by nothing


@dataclass(frozen=True)
class Arch:
    """Sizes: number of stacks; channels and residual blocks per resolution, 1/4 of the input first.

    basic: Hourglass-52, in place of Newell's network, which has the same channels and blocks everywhere. refine: RMPG
    on the features of every stack, before its heatmaps.
    """

    joints: int = 16
    stacks: int = 1
    channels: tuple[int, ...] = (256, 256, 256, 256, 256)
    blocks: tuple[int, ...] = (1, 1, 1, 1, 1)
    basic: bool = False
    refine: Refine | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "channels", tuple(self.channels))  # JSON gives lists
        object.__setattr__(self, "blocks", tuple(self.blocks))
        given = f"got {self.stacks} stacks, channels {self.channels}, blocks {self.blocks}"
        if self.stacks < 1 or len(self.channels) != len(self.blocks) or len(self.blocks) < 2 or min(self.blocks) < 1:
            raise ValueError(f"an hourglass has stacks, and channels and blocks for 2 resolutions or more; {given}")
        if not self.basic and len({*self.channels}) + len({*self.blocks}) != 2:
            raise ValueError(f"Newell's hourglass has the same channels and blocks everywhere; {given}")
        placed(self, 1, 1)


class PreBottleneck(nn.Module):
    """Residual of three convolutions with bias, BatchNorm and ReLU before each; from `a` channels to `b`."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(a), nn.Conv2d(a, b // 2, 1)
        self.bn2, self.conv2 = nn.BatchNorm2d(b // 2), nn.Conv2d(b // 2, b // 2, 3, padding=1)
        self.bn3, self.conv3 = nn.BatchNorm2d(b // 2), nn.Conv2d(b // 2, b, 1)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = None if a == b else nn.Sequential(nn.Conv2d(a, b, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(self.relu(self.bn1(x)))
        y = self.conv2(self.relu(self.bn2(y)))
        y = self.conv3(self.relu(self.bn3(y)))
        return y + (x if self.downsample is None else self.downsample(x))


def bottlenecks(a: int, b: int, n: int = 1) -> nn.Sequential:
    """`n` pre-activated bottlenecks, the first of which takes `a` channels."""
    return nn.Sequential(*(PreBottleneck(b if i else a, b) for i in range(n)))


class Nested(nn.Module):
    """Newell's hourglass: level n of `hg` holds the path around, the way down, the way up; level 0 the middle too."""

    def __init__(self, width: int, blocks: int, depth: int) -> None:
        super().__init__()
        self.upsample = nn.Upsample(scale_factor=2)
        self.hg = nn.ModuleList(
            nn.ModuleList(bottlenecks(width, width, blocks) for _ in range(3 if level else 4)) for level in range(depth)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.below(len(self.hg) - 1, x)

    def below(self, level: int, x: Tensor) -> Tensor:
        parts: Any = self.hg[level]
        low = parts[1](max_pool2d(x, 2))
        low = self.below(level - 1, low) if level else parts[3](low)
        return parts[0](x) + self.upsample(parts[2](low))


class Newell(nn.Module):
    """The paper's network; see the module's docstring for its input and outputs."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.arch = arch
        c, n, depth, stacks = arch.channels[0], arch.blocks[0], len(arch.channels) - 1, range(arch.stacks)
        self.conv1, self.bn1, self.relu = nn.Conv2d(3, c // 4, 7, 2, 3), nn.BatchNorm2d(c // 4), nn.ReLU(inplace=True)
        self.layer1, self.layer2, self.layer3 = bottlenecks(c // 4, c // 2), bottlenecks(c // 2, c), bottlenecks(c, c)
        self.hg = nn.ModuleList(Nested(c, n, depth) for _ in stacks)
        self.res = nn.ModuleList(bottlenecks(c, c, n) for _ in stacks)
        self.fc = nn.ModuleList(nn.Sequential(nn.Conv2d(c, c, 1), nn.BatchNorm2d(c), nn.ReLU(True)) for _ in stacks)
        self.score = nn.ModuleList(nn.Conv2d(c, arch.joints, 1) for _ in stacks)
        self.fc_ = nn.ModuleList(nn.Conv2d(c, c, 1) for _ in stacks[1:])
        self.score_ = nn.ModuleList(nn.Conv2d(arch.joints, c, 1) for _ in stacks[1:])
        self.refine = nn.ModuleList(Refinement(arch.refine, c) for _ in stacks)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.layer1(self.relu(self.bn1(self.conv1(images))))
        x, outputs = self.layer3(self.layer2(max_pool2d(x, 2))), []
        for i, (hourglass, res, fc, score) in enumerate(zip(self.hg, self.res, self.fc, self.score, strict=True)):
            y, parts = self.refine[i](fc(res(hourglass(x))))
            outputs += [*parts, score(y)]
            if i < len(self.fc_):
                x = x + self.fc_[i](y) + self.score_[i](outputs[-1])
        return outputs


class ConvModule(nn.Module):
    """Convolution without bias, BatchNorm and, unless `relu` is False, ReLU."""

    def __init__(self, a: int, b: int, kernel: int, stride: int = 1, relu: bool = True) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(a, b, kernel, stride, kernel // 2, bias=False), nn.BatchNorm2d(b)
        self.activate = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.activate(self.bn(self.conv(x)))


class Level(nn.Module):
    """One resolution of Hourglass-52 with all coarser ones inside (`low2`)."""

    def __init__(self, channels: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        (a, b), n = channels[:2], blocks[0]
        self.up1 = residuals(BasicBlock, a, a, n)
        self.low1 = residuals(BasicBlock, a, b, n, 2)
        deeper = len(channels) > 2
        self.low2 = Level(channels[1:], blocks[1:]) if deeper else residuals(BasicBlock, b, b, blocks[1])
        self.low3 = nn.Sequential(*(BasicBlock(b, b if i < n - 1 else a) for i in range(n)))

    def forward(self, x: Tensor) -> Tensor:
        return self.up1(x) + interpolate(self.low3(self.low2(self.low1(x))), scale_factor=2.0)


class Hourglass52(nn.Module):
    """MMPose's network; see the module's docstring for its input and outputs."""

    def __init__(self, arch: Arch) -> None:
        super().__init__()
        self.arch = arch
        c, stacks = arch.channels[0], range(arch.stacks)
        self.stem = nn.Sequential(ConvModule(3, c // 2, 7, 2), residuals(BasicBlock, c // 2, c, 1, 2))
        self.hourglass_modules = nn.ModuleList(Level(arch.channels, arch.blocks) for _ in stacks)
        self.inters = residuals(BasicBlock, c, c, max(1, arch.stacks - 1))
        self.conv1x1s = nn.ModuleList(ConvModule(c, c, 1, relu=False) for _ in stacks[1:])
        self.out_convs = nn.ModuleList(ConvModule(c, c, 3) for _ in stacks)
        self.remap_convs = nn.ModuleList(ConvModule(c, c, 1, relu=False) for _ in stacks[1:])
        self.relu = nn.ReLU(inplace=True)
        self.multi_final_layers = nn.ModuleList(nn.Conv2d(c, arch.joints, 1) for _ in stacks)
        init_small(self)
        self.refine = nn.ModuleList(Refinement(arch.refine, c) for _ in stacks)

    def forward(self, images: Tensor) -> list[Tensor]:
        x, outputs = self.stem(images), []
        for i, final in enumerate(self.multi_final_layers):
            y, parts = self.refine[i](self.out_convs[i](self.hourglass_modules[i](x)))
            outputs += [*parts, final(y)]
            if i < len(self.conv1x1s):
                x = self.inters[i](self.relu(self.conv1x1s[i](x) + self.remap_convs[i](y)))
        return outputs


def build(arch: Arch) -> Newell | Hourglass52:
    """The network of `arch`, freshly initialised."""
    return Hourglass52(arch) if arch.basic else Newell(arch)


def codec(arch: Arch, skeleton: Skeleton, size: tuple[int, int]) -> TopDown:
    """How the authors' networks read pictures: crops of `size` (w, h) pixels, quarter shift, no UDP.

    Newell's maps and mirrored maps lie a quarter of a map pixel apart, so they are averaged where they are.
    """
    return TopDown(skeleton, size, sigma=3.0 if size[1] >= 384 else 2.0, shift_flipped=arch.basic)


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: pytorch-pose's, or MMPose's without its two prefixes."""
    return bare(state)


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict in one of the two layouts; `ValueError` if it is none."""
    try:
        refine = inferred(state, "refine.0.")
        if "stem.0.conv.weight" not in state:
            stacks, depth = count(state, "hg."), count(state, "hg.0.hg.")
            width, blocks = state["fc.0.0.weight"].shape[0], count(state, "hg.0.hg.0.0.")
            widths, counts = (width,) * (depth + 1), (blocks,) * (depth + 1)
            return Arch(state["score.0.weight"].shape[0], stacks, widths, counts, refine=refine)
        level, channels, blocks = "hourglass_modules.0.", [], []
        while f"{level}up1.0.conv1.weight" in state:
            channels.append(state[f"{level}up1.0.conv1.weight"].shape[0])
            blocks.append(count(state, f"{level}up1."))
            level += "low2."
        channels.append(state[f"{level}0.conv1.weight"].shape[0])
        blocks.append(count(state, level))
        final = state["multi_final_layers.0.weight"]
        return Arch(final.shape[0], count(state, "hourglass_modules."), tuple(channels), tuple(blocks), True, refine)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not an Hourglass checkpoint: {error}") from error


def load_imagenet(net: Newell | Hourglass52, path: str) -> None:
    """`ValueError`: hourglasses were never trained on ImageNet; the authors of both networks begin at random."""
    raise ValueError(f"{path}: an hourglass does not start from ImageNet weights; leave the file out")


H52 = Arch(17, 1, (256, 256, 384, 384, 384, 512), (2, 2, 2, 2, 2, 4), True)
ARCHS = {  # name -> (Arch, input (w, h) in pixels); Newell's have MPII's 16 joints
    **{str(stacks): (Arch(stacks=stacks), (256, 256)) for stacks in (1, 2, 4, 8)},
    "52": (H52, (256, 256)),
    "52-384x384": (H52, (384, 384)),
    "52-mpii": (replace(H52, joints=16), (256, 256)),
    "52-rmpg": (replace(H52, refine=Refine()), (256, 256)),
}
