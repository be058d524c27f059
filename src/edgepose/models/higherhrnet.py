"""HigherHRNet: scale-aware representation learning for bottom-up human pose estimation (Cheng et al., CVPR 2020).

HRNet's trunk with two outputs (arXiv 1908.10357, section 3, figure 2): J heatmaps and J tags at 1/4 of the input;
these and the features go through a transposed convolution and residual blocks to J heatmaps at 1/2. Module names follow
the official checkpoints, so those load by key. `forward(images (n, 3, h, w)) -> [(n, 2J, h/4, w/4), (n, J, h/2, w/2)]`,
finest last; h and w are multiples of 32. The W16 and W24 baselines and the gradual shrinking of LitePose (CVPR
2022) are here too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from edgepose.codecs.bottomup import BottomUp
from edgepose.models._blocks import BasicBlock, init_small, residuals
from edgepose.models._keys import bare, count, load_trunk
from edgepose.models.hrnet import Blocks, add_trunk, check_trunk, infer_trunk, run_trunk
from edgepose.skeleton import Skeleton


@dataclass(frozen=True)
class Arch:
    """Sizes: those of HRNet's trunk (`hrnet.Arch`); channels and residual blocks after the transposed convolution."""

    joints: int = 17
    width: int = 32
    planes: int = 64
    modules: tuple[int, ...] = (1, 4, 3)
    blocks: Blocks = ((4, 4), (4, 4, 4), (4, 4, 4, 4))
    deconv_channels: int = 32
    deconv_blocks: int = 4

    def __post_init__(self) -> None:
        object.__setattr__(self, "modules", tuple(self.modules))  # JSON gives lists
        object.__setattr__(self, "blocks", tuple(map(tuple, self.blocks)))
        check_trunk(self.modules, self.blocks)


class HigherHRNet(nn.Module):
    """The network of `Arch`; see the module's docstring for its input and outputs."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch = arch
        add_trunk(self, arch.width, arch.planes, arch.modules, arch.blocks)
        c, d = arch.width, arch.deconv_channels
        self.final_layers = nn.ModuleList([nn.Conv2d(c, 2 * arch.joints, 1), nn.Conv2d(d, arch.joints, 1)])
        up = nn.ConvTranspose2d(c + 2 * arch.joints, d, 4, 2, 1, bias=False)
        refine = [residuals(BasicBlock, d, d, 1) for _ in range(arch.deconv_blocks)]
        head = nn.Sequential(nn.Sequential(up, nn.BatchNorm2d(d), nn.ReLU(inplace=True)), *refine)
        self.deconv_layers = nn.ModuleList([head])
        init_small(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        x = run_trunk(self, images)
        coarse = self.final_layers[0](x)
        fine = self.deconv_layers[0](torch.cat([x, coarse], 1))
        return [coarse, self.final_layers[1](fine)]


def build(arch: Arch) -> HigherHRNet:
    """The network of `arch`, freshly initialised."""
    return HigherHRNet(arch)


def codec(arch: Arch, skeleton: Skeleton, size: int) -> BottomUp:
    """How the network reads pictures: whole, the short side fitted to `size` pixels."""
    return BottomUp(skeleton, size)


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: official, or MMPose's with its two prefixes removed."""
    return bare(state)


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict in the official layout; `ValueError` if it is none."""
    try:
        fine = state["final_layers.1.weight"].shape
        head = count(state, "deconv_layers.0.") - 1
        return Arch(fine[0], **infer_trunk(state), deconv_channels=fine[1], deconv_blocks=head)
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not a HigherHRNet checkpoint: {error}") from error


def load_imagenet(net: HigherHRNet, path: str) -> None:
    """Start the trunk of `net` from the HRNet authors' ImageNet file of the same width; `ValueError` if none fits."""
    load_trunk(net, path, ("final_layers.", "deconv_layers."), f"HRNet-W{net.arch.width}")


def _light(width: int, blocks: Blocks = ((4, 4), (4, 4, 4), (4, 4, 4, 4))) -> Arch:
    """The LitePose authors' baselines: fewer planes in front, no residual blocks behind the transposed convolution."""
    return Arch(14, width, 2 * width, blocks=blocks, deconv_blocks=0)


ARCHS = {  # name -> (Arch, short side of the input in pixels); those with CrowdPose's 14 joints are LitePose's study
    "w16": (_light(16), 512),
    "w24": (_light(24), 512),
    "w32": (Arch(), 512),
    "w48": (Arch(width=48, deconv_channels=48), 640),
    "shrink1": (_light(16, ((3, 4), (2, 3, 4), (1, 2, 3, 4))), 512),
    "shrink2": (_light(18, ((1, 4), (1, 1, 4), (1, 1, 1, 4))), 512),
    "shrink3": (_light(18, ((0, 4), (0, 0, 4), (0, 0, 0, 4))), 512),
}
