"""Parameters and multiply-adds equal the published figures to every printed digit."""

from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from edgepose.cost import cost  # noqa: E402
from edgepose.models.litepose import ARCHS, LitePose  # noqa: E402

PUBLISHED = {  # joints -> name -> parameters, GMACs, GMACs as ptflops 0.6.9 counts (the paper's), square input
    14: {
        "xs": (1675552, 0.883, 1.202), "s": (2731240, 3.614, 4.981), "m": (3533808, 5.264, 7.842),
        "l": (5738120, 9.962, 13.713), "prune-s": (1709032, 3.486, 4.685), "prune-m": (3472064, 6.849, 9.547),
        "prune-l": (5812744, 10.895, 15.280),
    },
    17: {
        "xs": (1675912, 0.886, 1.205), "s": (2731624, 3.624, 4.992), "m": (3534336, 5.276, 7.854),
        "l": (5738672, 9.979, 13.730), "prune-s": (1709368, 3.496, 4.695), "prune-m": (3472592, 6.864, 9.563),
        "prune-l": (5813392, 10.914, 15.299),
    },
}  # fmt: skip
PRUNE_S = replace(ARCHS["prune-s"][0], joints=14)
ABLATIONS = {  # the paper's ablations at 512 px -> million parameters, GMACs, GMACs of the paper's count
    "3x3": (replace(PRUNE_S, kernels=(3,) * 4), 1.333, 2.570, 3.769),
    "5x5": (replace(PRUNE_S, kernels=(5,) * 4), 1.483, 2.936, 4.135),
    "7x7": (PRUNE_S, 1.709, 3.486, 4.685),
    "9x9": (replace(PRUNE_S, kernels=(9,) * 4), 2.010, 4.219, 5.418),
    "9x9 but stage 2": (replace(PRUNE_S, kernels=(9, 9, 7, 9)), 1.921, 4.128, 5.327),
    "plain deconvolution": (replace(PRUNE_S, fusion=False), 1.667, 3.289, 4.056),
}


@pytest.mark.parametrize("joints", PUBLISHED)
@pytest.mark.parametrize("name", ARCHS)
def test_published_figures(name, joints):
    arch, size = ARCHS[name]
    found = cost(LitePose(replace(arch, joints=joints)), (size, size))
    assert (found.params, found.gmacs, found.gmacs_paper) == PUBLISHED[joints][name]


@pytest.mark.parametrize("name", ABLATIONS)
def test_ablations(name):
    arch, params, macs, macs_paper = ABLATIONS[name]
    found = cost(LitePose(arch), (512, 512))
    assert (round(found.params / 1e6, 3), found.gmacs, found.gmacs_paper) == (params, macs, macs_paper)


@pytest.mark.parametrize(
    ("name", "size", "macs", "macs_paper"),
    [
        ("xs", (256, 384), 1.33, 1.81),
        ("s", (448, 640), 5.18, 7.13),
        ("m", (448, 640), 7.54, 11.22),
        ("l", (512, 704), 13.72, 18.88),
    ],
)
def test_input_of_a_640x480_photograph(name, size, macs, macs_paper):
    found = cost(LitePose(ARCHS[name][0]), size)
    assert (round(found.macs / 1e9, 2), round(found.macs_paper / 1e9, 2)) == (macs, macs_paper)


def test_shared_archs_agree(shared):
    import json

    spec = json.loads((shared / "specs" / "litepose_archs.json").read_text())
    assert len(spec) == len(ARCHS)
    for name, row in spec.items():
        arch, size = ARCHS[name.removeprefix("search-").lower()]
        assert (arch.stem, list(arch.channels), list(arch.blocks)) == (
            row["stem_channels"], row["channels"], row["blocks"]
        )  # fmt: skip
        assert (list(arch.deconv_channels), list(arch.deconv_kernels)) == (
            row["deconv_channels"], row["deconv_kernels"]
        )  # fmt: skip
        assert (size, arch.expansion, set(arch.kernels)) == (row["img_size"], row["expansion"], {row["kernel"]})


def test_by_hand():
    """Every counted kind of module, added up by hand."""
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3, 2, 1, groups=1, bias=True),  # 8x8 -> 4x4
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 5, 1, 2, groups=8, bias=False),
        nn.ConvTranspose2d(8, 4, 4, 2, 1, bias=False),  # 4x4 -> 8x8
        nn.ReLU(),
        nn.Upsample(scale_factor=2),
    )
    conv, depthwise, deconv = 16 * 27 * 8, 16 * 25 * 8, 16 * 16 * 8 * 4
    found = cost(net, (8, 8))
    assert found.params == 27 * 8 + 8 + 16 + 200 + 512
    assert found.macs == conv + depthwise + deconv
    assert found.macs_paper == conv + 128 + 2 * 128 + 128 + depthwise + 4 * deconv + 256 + 1024


def test_network_is_not_touched():
    net = LitePose().train()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    cost(net, (64, 64))
    assert net.training
    assert not any(m._forward_hooks for m in net.modules())
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
