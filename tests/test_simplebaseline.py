"""SimpleBaselines equals the original: layout, forward pass, cost; ImageNet weights land in its trunk."""

import _official
import pytest

torch = pytest.importorskip("torch")

from edgepose.cost import cost  # noqa: E402
from edgepose.models import input_hw, simplebaseline  # noqa: E402
from edgepose.models.simplebaseline import ARCHS, Arch, build, infer, load_imagenet  # noqa: E402

RELEASED = [f"simplebaseline-{depth}-{data}" for depth in ("r50", "r101", "r152") for data in ("coco", "mpii")]
FIGURES = {  # million parameters, GMACs; GFLOPs printed in table 1 of HRNet (CVPR 2019)
    "r50": (34.00, 5.43, 8.90), "r101": (52.99, 9.06, 12.4), "r152": (68.64, 12.7, 15.7),
    "r50-384x288": (34.00, 12.2, None), "r101-384x288": (52.99, 20.4, None), "r152-384x288": (68.64, 28.6, 35.6),
}  # fmt: skip
SMALL = Arch(blocks=(1, 2, 1, 1), bottleneck=False, stem=8, deconv_channels=(16, 8, 24), deconv_kernels=(4, 3, 2))


@pytest.mark.parametrize("name", [*RELEASED, "mmpose-res50-coco", "mmpose-res101-coco"])
def test_layout_equals_the_released_files(shared, name):
    _official.check_layout(shared, name, simplebaseline)


@pytest.mark.parametrize("name", ["simplebaseline-r50-coco", "mmpose-res50-coco"])
def test_forward_equals_the_original(shared, name):
    _official.check_golden(shared, name, simplebaseline)


@pytest.mark.parametrize("name", FIGURES)
def test_published_figures(name):
    """The printed GFLOPs are multiply-adds in units of 2^30, deconvolutions at output positions (four times ours)."""
    arch, size = ARCHS[name]
    params, gmacs, printed = FIGURES[name]
    with torch.device("meta"):
        net = build(arch)
    h, w = input_hw(size)
    found = cost(net, (h, w))
    assert round(found.params / 1e6, 2) == params
    assert float(f"{found.gmacs:.3g}") == gmacs
    if printed:
        deconvs = [m for m in net.deconv_layers if isinstance(m, torch.nn.ConvTranspose2d)]
        at_outputs = sum(3 * m.weight.numel() * (h * w >> (10 - 2 * i)) for i, m in enumerate(deconvs))
        assert (found.macs + at_outputs) / 2**30 == pytest.approx(printed, rel=0.011)


def test_small_variants():
    net = build(SMALL)
    assert infer(net.state_dict()) == SMALL
    (out,) = net(torch.randn(2, 3, 64, 96))
    assert out.shape == (2, 17, 16, 24)


def torchvision_like(net):
    """An ImageNet file: the trunk and a classifier, without the counters that old files lack."""
    state = {k: torch.randn(v.shape) for k, v in net.state_dict().items() if k.startswith(("conv1", "bn1", "layer"))}
    state = {k: v for k, v in state.items() if not k.endswith("num_batches_tracked")}
    return state | {"fc.weight": torch.randn(10, 64), "fc.bias": torch.randn(10)}


def test_imagenet_weights_land_in_the_trunk(tmp_path):
    net = build(SMALL)
    state = torchvision_like(net)
    torch.save(state, tmp_path / "resnet.pth")
    head = net.final_layer.weight.clone()
    load_imagenet(net, str(tmp_path / "resnet.pth"))
    assert torch.equal(net.layer4[0].conv2.weight, state["layer4.0.conv2.weight"])
    assert torch.equal(net.bn1.running_var, state["bn1.running_var"])
    assert torch.equal(net.final_layer.weight, head)


def test_other_trunks_are_refused(tmp_path):
    net = build(SMALL)
    state = torchvision_like(net)
    del state["layer2.1.conv1.weight"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"part\.pth is no ImageNet ResNet.*layer2\.1\.conv1"):
        load_imagenet(net, str(tmp_path / "part.pth"))


def test_begins_as_the_authors_begin():
    net = build(Arch())
    for weight in (net.conv1.weight, net.deconv_layers[0].weight, net.final_layer.weight):
        assert 0.0009 < weight.std() < 0.0011
    assert not net.final_layer.bias.any()


@pytest.mark.parametrize("wrong", [{"blocks": (3, 4)}, {"blocks": (0, 1, 1, 1)}, {"deconv_kernels": (5,) * 3}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        Arch(**wrong)
