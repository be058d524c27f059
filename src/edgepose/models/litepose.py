"""LitePose: efficient architecture design for 2D human pose estimation (Wang et al., CVPR 2022, arXiv 2205.01271).

A single-branch encoder of inverted residuals with large depthwise kernels (section 3.2) and a fusion deconv head
(section 3.3) that adds encoder features back in at every upsampling step. Module names follow the official
checkpoints, so those load by key. `forward(images (n, 3, h, w)) -> [(n, 2J, h/4, w/4), (n, J, h/2, w/2)]`: J heatmaps
then J tags, then J heatmaps; h and w are multiples of 16.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from edgepose.codecs.bottomup import BottomUp
from edgepose.models._keys import bare, count
from edgepose.models._parsegraph import Refine, Refinement, inferred, placed
from edgepose.skeleton import Skeleton


@dataclass(frozen=True)
class Arch:
    """Sizes of a LitePose.

    stem: channels at stride 2. channels, blocks, strides, kernels: per stage. expansion: of the inverted residuals.
    deconv_channels, deconv_kernels: per upsampling step (kernel 2, 3 or 4). fusion: False gives the plain deconvolution
    head of the paper's ablation, without raw features. tag_ramp: see `ramped`; 0, the paper's network, adds nothing.
    refine: RMPG after the deconvolution `place` (1 to 3), by default the second, which both outputs come from.
    """

    joints: int = 17
    stem: int = 16
    channels: tuple[int, ...] = (16, 32, 48, 80)
    blocks: tuple[int, ...] = (6, 8, 10, 10)
    strides: tuple[int, ...] = (2, 2, 2, 1)
    kernels: tuple[int, ...] = (7, 7, 7, 7)
    expansion: int = 6
    deconv_channels: tuple[int, ...] = (16, 24, 24)
    deconv_kernels: tuple[int, ...] = (4, 4, 4)
    fusion: bool = True
    tag_ramp: float = 0.0
    refine: Refine | None = None

    def __post_init__(self) -> None:
        for name in ("channels", "blocks", "strides", "kernels", "deconv_channels", "deconv_kernels"):
            object.__setattr__(self, name, tuple(getattr(self, name)))  # JSON gives lists
        if {len(self.channels), len(self.blocks), len(self.strides), len(self.kernels)} != {4}:
            raise ValueError(f"LitePose has 4 stages; got channels {self.channels}, blocks {self.blocks}")
        if len(self.deconv_channels) != 3 or not set(self.deconv_kernels) <= {2, 3, 4}:
            raise ValueError(f"LitePose has 3 deconvolutions of kernel 2, 3 or 4; got {self.deconv_kernels}")
        if not all(k % 2 for k in self.kernels):
            raise ValueError(f"depthwise kernels must be odd; got {self.kernels}")
        placed(self, 2, 3, parts=False)


def conv_bn(a: int, b: int, kernel: int, stride: int = 1, groups: int = 1, act: bool = True) -> list[nn.Module]:
    """Convolution without bias, BatchNorm and ReLU6 (unless `act` is False)."""
    conv = nn.Conv2d(a, b, kernel, stride, kernel // 2, groups=groups, bias=False)
    return [conv, nn.BatchNorm2d(b), *([nn.ReLU6(inplace=True)] if act else [])]


class InvertedResidual(nn.Module):
    """Expand 1x1, depthwise k x k, project 1x1; the input is added where shapes allow (section 3.2)."""

    def __init__(self, a: int, b: int, stride: int, kernel: int, expansion: int) -> None:
        super().__init__()
        m = max(8, (a * expansion + 4) // 8 * 8)
        self.inv = nn.Sequential(*conv_bn(a, m, 1))
        self.depth_conv = nn.Sequential(*conv_bn(m, m, kernel, stride, m))
        self.point_conv = nn.Sequential(*conv_bn(m, b, 1, act=False))
        self.residual = stride == 1 and a == b

    def forward(self, x: Tensor) -> Tensor:
        y = self.point_conv(self.depth_conv(self.inv(x)))
        return x + y if self.residual else y


class Prediction(nn.Module):
    """Depthwise 5x5, BatchNorm, ReLU, 1x1 without bias: one of the two summed heads of an output."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        depthwise = nn.Conv2d(a, a, 5, padding=2, groups=a, bias=False)
        self.conv = nn.Sequential(depthwise, nn.BatchNorm2d(a), nn.ReLU(inplace=True), nn.Conv2d(a, b, 1, bias=False))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x)


def add_fusion_head(
    net: Any, raw: tuple[int, ...], deep: int, widths: tuple[int, ...], kernels: tuple[int, ...], joints: int,
    fusion: bool = True, tags: bool = True, refine: Refine | None = None,
) -> None:  # fmt: skip
    """Give `net` the module lists of the fusion deconv head (section 3.3).

    raw: channels of the encoder features at strides 16, 8, 4, 2. deep: channels of the deepest features (stride 16).
    widths: of the deconvolutions, two or three; there is an output behind each but the first. tags: J tags behind the
    heatmaps of the first output. refine: RMPG, by default after the second deconvolution.
    """

    def deconv(a: int, b: int, k: int) -> nn.ConvTranspose2d:
        return nn.ConvTranspose2d(a, b, k, 2, padding=0 if k == 2 else 1, output_padding=k % 2, bias=False)

    refined = (deep, *widths[:-1])
    net.deconv_refined = nn.ModuleList(map(deconv, refined, widths, kernels))
    net.deconv_raw = nn.ModuleList(map(deconv, raw[: len(widths)], widths, kernels) if fusion else [])
    net.deconv_bnrelu = nn.ModuleList(nn.Sequential(nn.BatchNorm2d(w), nn.ReLU(inplace=True)) for w in widths)
    outputs = ((1 + tags) * joints, joints)[: len(widths) - 1]
    net.final_refined = nn.ModuleList(map(Prediction, widths[1:], outputs))
    net.final_raw = nn.ModuleList(map(Prediction, raw[2 : 2 + len(outputs)], outputs) if fusion else [])
    heads: list[Any] = [*net.final_refined, *net.final_raw]
    for head in heads:  # heatmaps begin near zero, tags spread out
        nn.init.normal_(head.conv[3].weight[:joints], std=1e-3)
    net.place = (refine and refine.place) or 2
    net.refine = Refinement(refine, widths[net.place - 1], 2 ** max(0, 2 - net.place))


def run_fusion_head(net: Any, deep: Tensor, raw: list[Tensor]) -> list[Tensor]:
    """The head over the deepest features and the raw features at strides 16, 8, 4, 2 -> outputs at strides 4 and 2.

    In training, maps of the parts that `net.refine` is taught come first.
    """
    outputs, parts, x = [], [], deep
    for i, norm in enumerate(net.deconv_bnrelu):
        y = net.deconv_refined[i](x)
        if len(net.deconv_raw):
            y = y + net.deconv_raw[i](raw[i])
        x = norm(y)
        if i + 1 == net.place:
            x, parts = net.refine(x)
        if i:
            out = net.final_refined[i - 1](x)
            outputs.append(out + net.final_raw[i - 1](raw[i + 1]) if len(net.final_raw) else out)
    return parts + outputs


def ramped(outputs: list[Tensor], unit: float) -> list[Tensor]:
    """Add the position (x + y / 2) / unit, in input pixels at stride 4, to the tags of the first output.

    Tags that begin as positions tell people apart from the first step on: the network has only to learn how far a
    joint is from the rest of its person, and the flip test adds a second projection, (y / 2 - x) / unit. (Not in the
    paper; after the spatial embeddings of Neven et al., CVPR 2019.) `unit` 0 changes nothing.
    """
    if not unit:
        return outputs
    first, *rest = outputs
    joints = first.shape[1] // 2
    x = torch.arange(first.shape[3], device=first.device, dtype=first.dtype)
    y = torch.arange(first.shape[2], device=first.device, dtype=first.dtype)
    ramp = (x + y[:, None] / 2) * (4 / unit)
    return [torch.cat([first[:, :joints], first[:, joints:] + ramp], 1), *rest]


class LitePose(nn.Module):
    """The network of `Arch`; see the module's docstring for its inputs and outputs."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch = arch
        stem = conv_bn(32, arch.stem, 1, act=False)
        self.first = nn.Sequential(
            nn.Sequential(*conv_bn(3, 32, 3, 2)), nn.Sequential(*conv_bn(32, 32, 3, 1, 32)), *stem
        )
        self.stage = nn.ModuleList()
        a = arch.stem
        for b, n, stride, kernel in zip(arch.channels, arch.blocks, arch.strides, arch.kernels, strict=True):
            blocks = []
            for i in range(n):
                blocks.append(InvertedResidual(a, b, stride if i == 0 else 1, kernel, arch.expansion))
                a = b
            self.stage.append(nn.Sequential(*blocks))
        raw = (*arch.channels[2::-1], arch.stem)
        add_fusion_head(
            self, raw, a, arch.deconv_channels, arch.deconv_kernels, arch.joints, arch.fusion,
            refine=arch.refine,
        )  # fmt: skip

    def forward(self, images: Tensor) -> list[Tensor]:
        features = [self.first(images)]
        for stage in self.stage:
            features.append(stage(features[-1]))
        return ramped(run_fusion_head(self, features[-1], features[3::-1]), self.arch.tag_ramp)


def build(arch: Arch) -> LitePose:
    """The network of `arch`, freshly initialised."""
    return LitePose(arch)


def load_imagenet(net: LitePose, path: str) -> None:
    """Start the encoder from the most important channels of an ImageNet EfficientNet-Lite0 (see `_transplant.py`)."""
    from edgepose.models._transplant import load_imagenet_slices

    load_imagenet_slices(net, path)


def codec(arch: Arch, skeleton: Skeleton, size: int) -> BottomUp:
    """How the network reads pictures: whole, the short side fitted to `size` pixels."""
    return BottomUp(skeleton, size)


_MMPOSE = (  # MMPose's names of modules (its pull request 1486) -> the authors'
    (r"^first\.([01])\.conv\.", r"first.\1.0."),
    (r"^first\.([01])\.bn\.", r"first.\1.1."),
    (r"^first\.2\.conv\.", "first.2."),
    (r"^first\.2\.bn\.", "first.3."),
    (r"^(final_\w+\.\d)\.conv\.0\.conv\.", r"\1.conv.0."),
    (r"^(final_\w+\.\d)\.conv\.0\.bn\.", r"\1.conv.1."),
    (r"^(final_\w+\.\d)\.conv\.1\.conv\.", r"\1.conv.3."),
    *((rf"^(stage\.\d+\.\d+)\.conv\.{i}\.{theirs}\.", rf"\1.{part}.{ours}.")
      for i, part in enumerate(("inv", "depth_conv", "point_conv")) for ours, theirs in enumerate(("conv", "bn"))),
)  # fmt: skip


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: the authors', or those of MMPose."""
    given = bare(state)
    if given.keys() == set(state):
        return given
    for pattern, ours in _MMPOSE:
        given = {re.sub(pattern, ours, key): value for key, value in given.items()}
    return given


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose LitePose has the shapes of a state dict in the official layout; `ValueError` if it is none."""
    try:
        first = [f"stage.{s}.0." for s in range(4)]
        return Arch(
            joints=state["final_refined.1.conv.3.weight"].shape[0],
            stem=state["first.2.weight"].shape[0],
            channels=tuple(state[f + "point_conv.0.weight"].shape[0] for f in first),
            blocks=tuple(count(state, f"stage.{s}.") for s in range(4)),
            kernels=tuple(state[f + "depth_conv.0.weight"].shape[-1] for f in first),
            expansion=state["stage.0.0.inv.0.weight"].shape[0] // state["stage.0.0.inv.0.weight"].shape[1],
            deconv_channels=tuple(state[f"deconv_refined.{i}.weight"].shape[1] for i in range(3)),
            deconv_kernels=tuple(state[f"deconv_refined.{i}.weight"].shape[-1] for i in range(3)),
            fusion="deconv_raw.0.weight" in state,
            refine=inferred(state),
        )
    except (KeyError, ValueError, IndexError, ZeroDivisionError) as error:
        raise ValueError(f"not a LitePose checkpoint: {error}") from error


_L = Arch(stem=24, channels=(24, 64, 96, 160), deconv_channels=(64, 40, 32))
ARCHS = {  # name -> (Arch, input size in pixels); search-* of the paper are "xs" ... "l", prune-* its uniform widths
    "xs": (Arch(), 256),
    "s": (Arch(channels=(16, 32, 48, 120), deconv_channels=(32, 24, 32)), 448),
    "m": (Arch(channels=(24, 48, 72, 120), deconv_channels=(64, 40, 32)), 448),
    "l": (_L, 512),
    "prune-s": (Arch(deconv_channels=(32, 24, 16)), 512),
    "prune-m": (Arch(stem=24, channels=(24, 48, 72, 120), deconv_channels=(48, 40, 24)), 512),
    "prune-l": (Arch(stem=24, channels=(32, 64, 96, 160), deconv_channels=(64, 48, 32)), 512),
}
