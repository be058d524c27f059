"""HigherHRNet equals the original, and the gradual shrinking of LitePose its table, to every printed digit."""

from dataclasses import replace

import _official
import pytest

torch = pytest.importorskip("torch")

from edgepose.cost import cost  # noqa: E402
from edgepose.models import higherhrnet  # noqa: E402
from edgepose.models.higherhrnet import ARCHS, Arch, build, infer, load_imagenet  # noqa: E402

STUDY = {  # 14 joints, 512 px: million parameters, GMACs, GMACs in the paper's count, printed (LitePose's slides)
    "w16": (7.205, 11.219, 12.499, 12.50), "shrink1": (6.714, 8.878, 10.121, 10.12),
    "shrink2": (7.621, 8.735, 10.018, 10.02), "shrink3": (7.375, 7.875, 9.148, 9.15),
}  # fmt: skip
OTHERS = {  # million parameters, GMACs, GMACs in LitePose's count; the paper prints 47.9 and 154.3 for the last two
    "w24": (16.11, 23.78, 25.34), "w32": (28.6, 46.1, 48.0), "w48": (63.8, 149.3, 154.6),
}  # fmt: skip
SMALL = Arch(3, 8, 16, (1, 1, 1), ((1, 1), (0, 1, 1), (0, 0, 0, 1)), deconv_channels=12, deconv_blocks=2)


@pytest.mark.parametrize("name", ["higherhrnet-w32-coco", "higherhrnet-w48-coco"])
def test_layout_equals_the_released_files(shared, name):
    _official.check_layout(shared, name, higherhrnet)


def test_forward_equals_the_original(shared):
    _official.check_golden(shared, "higherhrnet-w32-coco", higherhrnet)


@pytest.mark.parametrize("name", STUDY)
def test_gradual_shrinking(name):
    arch, size = ARCHS[name]
    with torch.device("meta"):
        found = cost(build(arch), (size, size))
    assert (round(found.params / 1e6, 3), found.gmacs, found.gmacs_paper) == STUDY[name][:3]
    assert round(found.macs_paper / 1e9, 2) == STUDY[name][3]


@pytest.mark.parametrize("name", OTHERS)
def test_published_figures(name):
    arch, size = ARCHS[name]
    params, gmacs, paper = OTHERS[name]
    with torch.device("meta"):
        found = cost(build(replace(arch, joints=14)), (size, size))
    assert found.params / 1e6 == pytest.approx(params, abs=0.05)
    assert (found.macs / 1e9, found.macs_paper / 1e9) == pytest.approx((gmacs, paper), abs=0.05)


def test_small_variants():
    net = build(SMALL)
    assert infer(net.state_dict()) == SMALL
    coarse, fine = net(torch.randn(2, 3, 64, 96))
    assert (coarse.shape, fine.shape) == ((2, 6, 16, 24), (2, 3, 32, 48))


def test_the_fine_maps_see_the_coarse_ones():
    net = build(SMALL).eval()
    for p in net.parameters():
        p.data.normal_(0, 0.1)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        before = net(image)
        net.final_layers[0].bias += 1
        after = net(image)
    assert torch.allclose(after[0], before[0] + 1, atol=1e-5)
    assert not torch.allclose(after[1], before[1], atol=1e-3)


def test_imagenet_weights_land_in_the_trunk(tmp_path):
    net = build(SMALL)
    head = ("final_layers", "deconv_layers")
    state = {k: torch.randn(v.shape) for k, v in net.state_dict().items() if not k.startswith(head)}
    torch.save({"state_dict": {f"module.{k}": v for k, v in state.items()}}, tmp_path / "imagenet.pth")
    load_imagenet(net, str(tmp_path / "imagenet.pth"))
    assert all(torch.equal(net.state_dict()[k], v) for k, v in state.items() if not k.endswith("_tracked"))
