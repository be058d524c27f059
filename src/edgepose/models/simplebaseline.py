"""SimpleBaselines: simple baselines for human pose estimation and tracking (Xiao et al., ECCV 2018, arXiv 1804.06208).

A ResNet and three transposed convolutions (section 2, figure 1c). Module names follow the official checkpoints, so
those load by key; the trunk's are torchvision's. `forward(images (n, 3, h, w)) -> [(n, J, h/4, w/4)]`, one heatmap a
joint of the person the crop shows; h and w are multiples of 32.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from torch import Tensor, nn

from edgepose.checkpoint import read_state
from edgepose.codecs.topdown import TopDown
from edgepose.models import _binary_blocks
from edgepose.models._binary import RPReLU, Unit
from edgepose.models._binary import adopt as take_over
from edgepose.models._blocks import BasicBlock, Bottleneck, init_small, residuals
from edgepose.models._keys import bare, count, load_trunk
from edgepose.skeleton import Skeleton


@dataclass(frozen=True)
class Arch:
    """Sizes: blocks per stage of the ResNet; whether they are bottlenecks (ResNet-50 and larger); channels of its stem.

    The stages are 1, 2, 4, 8 times as wide as the stem (4 times that with bottlenecks). deconv_channels,
    deconv_kernels (2, 3 or 4): one per transposed convolution; each doubles height and width. binary: blocks of binary
    units (`_binary.py`), and doubling by nearest neighbour with a binary 3x3 for the transposed convolutions; the first
    and the last convolution stay real.
    """

    joints: int = 17
    blocks: tuple[int, ...] = (3, 4, 6, 3)
    bottleneck: bool = True
    stem: int = 64
    deconv_channels: tuple[int, ...] = (256, 256, 256)
    deconv_kernels: tuple[int, ...] = (4, 4, 4)
    binary: bool = False

    def __post_init__(self) -> None:
        for name in ("blocks", "deconv_channels", "deconv_kernels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        if len(self.blocks) != 4 or min(self.blocks) < 1:
            raise ValueError(f"a ResNet has 4 stages of 1 block or more; got {self.blocks}")
        if len(self.deconv_channels) != 3 or len(self.deconv_kernels) != 3 or not set(self.deconv_kernels) <= {2, 3, 4}:
            raise ValueError(
                f"SimpleBaselines has 3 deconvolutions of kernel 2, 3 or 4; "
                f"got channels {self.deconv_channels}, kernels {self.deconv_kernels}"
            )


class SimpleBaseline(nn.Module):
    """The network of `Arch`; see the module's docstring for its input and output."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch = arch
        kinds = (_binary_blocks.Residual, _binary_blocks.Bottleneck) if arch.binary else (BasicBlock, Bottleneck)
        block, a = kinds[arch.bottleneck], arch.stem
        self.conv1 = nn.Conv2d(3, a, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(a)
        self.relu = RPReLU(a) if arch.binary else nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, 2, 1)
        wide = block.expansion * a
        self.layer1 = residuals(block, a, a, arch.blocks[0])
        self.layer2 = residuals(block, wide, 2 * a, arch.blocks[1], 2)
        self.layer3 = residuals(block, 2 * wide, 4 * a, arch.blocks[2], 2)
        self.layer4 = residuals(block, 4 * wide, 8 * a, arch.blocks[3], 2)
        a = 8 * wide
        layers: list[nn.Module] = []
        for b, k in zip(arch.deconv_channels, arch.deconv_kernels, strict=True):
            padding, extra = (0 if k == 2 else 1), k % 2
            if arch.binary:
                layers += [nn.Upsample(scale_factor=2), Unit(a, b)]
                a = b
                continue
            layers += [nn.ConvTranspose2d(a, b, k, 2, padding, extra, bias=False), nn.BatchNorm2d(b), nn.ReLU(True)]
            a = b
        self.deconv_layers = nn.Sequential(*layers)
        self.final_layer = nn.Conv2d(a, arch.joints, 1)
        init_small(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = self.maxpool(self.relu(self.bn1(self.conv1(images))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return [self.final_layer(self.deconv_layers(x))]


def build(arch: Arch) -> SimpleBaseline:
    """The network of `arch`, freshly initialised."""
    return SimpleBaseline(arch)


def codec(arch: Arch, skeleton: Skeleton, size: tuple[int, int]) -> TopDown:
    """How the authors' networks read pictures: crops of `size` (w, h) pixels, quarter shift, no UDP.

    At 384x288 their Gaussians are wider, 3 pixels of the heatmap in place of 2.
    """
    return TopDown(skeleton, size, sigma=3.0 if size[1] >= 384 else 2.0)


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: official, or MMPose's with its two prefixes removed."""
    return bare(state)


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict in the official layout; `ValueError` if it is none."""
    try:
        binary = "layer1.0.conv1.sign.shift" in state
        keys = [f"deconv_layers.{i}.{'convs.0.' * binary}weight" for i in ((1, 3, 5) if binary else (0, 3, 6))]
        deconvs = [state[key].shape for key in keys]
        return Arch(
            joints=state["final_layer.weight"].shape[0],
            blocks=tuple(count(state, f"layer{i}.") for i in (1, 2, 3, 4)),
            bottleneck=("layer1.0.conv3.bn.weight" if binary else "layer1.0.conv3.weight") in state,
            stem=state["conv1.weight"].shape[0],
            deconv_channels=tuple(shape[0 if binary else 1] for shape in deconvs),
            deconv_kernels=(4, 4, 4) if binary else tuple(shape[-1] for shape in deconvs),
            binary=binary,
        )
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not a SimpleBaselines checkpoint: {error}") from error


def adopt(net: SimpleBaseline, state: Mapping[str, Tensor], what: str) -> None:
    """Start a binary network from a real one of the same blocks; `ValueError` if `what` has nothing that fits."""
    take_over(net, native(state), what)


def load_imagenet(net: SimpleBaseline, path: str) -> None:
    """Start the trunk of `net` from a ResNet of the same blocks in torchvision's layout; `ValueError` if it is none.

    A binary network takes its kernels where shapes agree.
    """
    if net.arch.binary:
        adopt(net, read_state(path)[0], path)
        return
    load_trunk(net, path, ("deconv_layers.", "final_layer."), f"ResNet of blocks {net.arch.blocks}")


_ALL = {
    "r18": Arch(blocks=(2, 2, 2, 2), bottleneck=False),
    "r50": Arch(),
    "r101": Arch(blocks=(3, 4, 23, 3)),
    "r152": Arch(blocks=(3, 8, 36, 3)),
}
ARCHS = {  # name -> (Arch, input (w, h) in pixels); 256x256 is MPII's, with its 16 joints
    **{name: (arch, (192, 256)) for name, arch in _ALL.items()},
    **{f"{name}-binary": (replace(_ALL[name], binary=True), (192, 256)) for name in ("r18", "r50")},
    **{f"{name}-384x288": (arch, (288, 384)) for name, arch in _ALL.items() if name != "r18"},
    **{f"{name}-256x256": (Arch(16, arch.blocks), (256, 256)) for name, arch in _ALL.items() if name != "r18"},
}
