"""HRNet equals the original: layout, forward pass, cost; ImageNet weights land in its trunk."""

from dataclasses import replace

import _official
import pytest

torch = pytest.importorskip("torch")

from edgepose.cost import cost  # noqa: E402
from edgepose.models import hrnet, input_hw  # noqa: E402
from edgepose.models.hrnet import ARCHS, Arch, build, infer, load_imagenet  # noqa: E402

RELEASED = [f"{maker}hrnet-{w}-coco" for maker in ("", "mmpose-") for w in ("w32", "w48")]
FIGURES = {  # million parameters, GMACs; GFLOPs printed in table 1 of the paper (multiply-adds in units of 2^30)
    "w32": (28.54, 7.65, 7.10), "w48": (63.60, 15.7, 14.6),
    "w32-384x288": (28.54, 17.2, 16.0), "w48-384x288": (63.60, 35.3, 32.9),
}  # fmt: skip
SMALL = Arch(14, 8, 16, (1, 2, 1), ((1, 2), (0, 2, 1), (0, 0, 0, 3)))


@pytest.mark.parametrize("name", [*RELEASED, "hrnet-w32-mpii", "hrnet-w48-mpii"])
def test_layout_equals_the_released_files(shared, name):
    _official.check_layout(shared, name, hrnet)


def test_forward_equals_the_original(shared):
    _official.check_golden(shared, "hrnet-w32-coco", hrnet)


@pytest.mark.parametrize("name", FIGURES)
def test_published_figures(name):
    arch, size = ARCHS[name]
    params, gmacs, printed = FIGURES[name]
    with torch.device("meta"):
        found = cost(build(arch), input_hw(size))
    assert round(found.params / 1e6, 2) == params
    assert float(f"{found.macs / 1e9:.3g}") == pytest.approx(gmacs, abs=0.006)  # 7.645 is printed as 7.65
    assert float(f"{found.macs / 2**30:.3g}") == pytest.approx(printed, abs=0.021)  # 7.12 as 7.10


def test_small_variants():
    """Branches of no blocks are convolutions; the coarser branches reach the only output."""
    net = build(SMALL)
    assert infer(net.state_dict()) == SMALL
    (out,) = net(torch.randn(2, 3, 64, 96))
    assert out.shape == (2, 14, 16, 24)
    (out**2).sum().backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


def test_the_last_module_makes_the_finest_branch_alone():
    net = build(Arch())
    assert [len(module.fuse_layers) for module in net.stage4] == [4, 4, 1]
    assert [len(module.fuse_layers) for module in net.stage3] == [3, 3, 3, 3]


def test_imagenet_weights_land_in_the_trunk(tmp_path):
    """The classification files have all outputs of the last module, and a head of their own."""
    net = build(SMALL)
    state = {k: torch.randn(v.shape) for k, v in net.state_dict().items() if not k.startswith("final_layer")}
    extra = {"stage4.0.fuse_layers.1.0.0.0.weight": torch.randn(16, 8, 3, 3), "classifier.weight": torch.randn(9, 9)}
    torch.save(state | extra, tmp_path / "imagenet.pth")
    head = net.final_layer.weight.clone()
    load_imagenet(net, str(tmp_path / "imagenet.pth"))
    name = "stage4.0.branches.3.2.conv2.weight"
    assert torch.equal(net.state_dict()[name], state[name])
    assert torch.equal(net.final_layer.weight, head)
    with pytest.raises(ValueError, match=r"imagenet\.pth is no ImageNet HRNet-W16: \['transition1"):
        load_imagenet(build(replace(SMALL, width=16)), str(tmp_path / "imagenet.pth"))


@pytest.mark.parametrize("wrong", [{"modules": (1, 4)}, {"modules": (0, 1, 1)}, {"blocks": ((4, 4), (4, 4), (4,))}])
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="got"):
        Arch(**wrong)
