"""The hourglasses equal the originals (pytorch-pose's and MMPose's): layout, forward pass, parameters."""

import _official
import pytest

torch = pytest.importorskip("torch")
from torch.nn.functional import max_pool2d  # noqa: E402

from edgepose.cost import cost  # noqa: E402
from edgepose.models import hourglass, input_hw  # noqa: E402
from edgepose.models.hourglass import ARCHS, UNUSED, Arch, build, infer  # noqa: E402
from edgepose.skeleton import CROWDPOSE14  # noqa: E402

RELEASED = ["hourglass-1-mpii", "hourglass-2-mpii", "hourglass-8-mpii", "mmpose-hourglass52-coco"]
NEWELL = Arch(14, 3, (32,) * 4, (2,) * 4)
BASIC = Arch(14, 3, (16, 24, 24, 32), (1, 2, 1, 2), True)


@pytest.mark.parametrize("name", RELEASED)
def test_layout_equals_the_released_files(shared, name):
    _official.check_layout(shared, name, hourglass)


@pytest.mark.parametrize("name", ["hourglass-1-mpii", "mmpose-hourglass52-coco"])
def test_forward_equals_the_original(shared, name):
    _official.check_golden(shared, name, hourglass)


@pytest.mark.parametrize(("name", "params", "gmacs"), [("52", 94.85, 28.6), ("8", 25.59, None), ("2", 6.73, None)])
def test_published_figures(name, params, gmacs):
    """MMPose's Hourglass-52 as RMPG's table has it (94.8 M); the stacks as pytorch-pose's files have them."""
    arch, size = ARCHS[name]
    with torch.device("meta"):
        found = cost(build(arch), input_hw(size))
    assert round(found.params / 1e6, 2) == params
    assert gmacs is None or round(found.macs / 1e9, 1) == gmacs


@pytest.mark.parametrize("arch", [NEWELL, BASIC], ids=["newell", "basic"])
def test_stacks(arch):
    """A map per stack; every stack but the first sees the one before it; every weight learns."""
    net = build(arch)
    assert infer(net.state_dict()) == arch
    outputs = net(torch.randn(2, 3, 64, 96))
    assert [tuple(o.shape) for o in outputs] == [(2, 14, 16, 24)] * 3
    (outputs[-1] ** 2).sum().backward()
    heads = tuple(f"{name}.{i}." for name in ("score", "multi_final_layers") for i in (0, 1))
    blind = {k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
    assert {k for k in blind if not k.startswith(heads)} == set()
    assert bool(blind) == arch.basic  # Newell's stacks see the heatmaps of the one before, MMPose's its features alone


def test_what_one_stack_of_the_52_does_not_use():
    """The block that MMPose makes for the way to a second stack: 1.18 million of the 94.85 million parameters."""
    with torch.device("meta"):
        net = build(ARCHS["52"][0])
    spare = {k: p.numel() for k, p in net.named_parameters() if k.startswith(UNUSED)}
    assert round(sum(spare.values()) / 1e6, 2) == 1.18
    small = build(Arch(4, 1, (8, 8), (1, 1), True))
    sum(o.sum() for o in small(torch.randn(1, 3, 64, 64))).backward()
    assert {k for k, p in small.named_parameters() if p.grad is None} == {
        f"inters.0.{k}" for k in ("conv1.weight", "bn1.weight", "bn1.bias", "conv2.weight", "bn2.weight", "bn2.bias")
    }


@pytest.mark.parametrize(("arch", "apart"), [(NEWELL, 1), (BASIC, 3)], ids=["newell", "basic"])
def test_mirrored_maps_are_shifted_where_that_brings_them_closer(arch, apart):
    """A map pixel and its mirror image look at places so many input pixels apart; a shift is one map pixel, 4."""
    net = build(arch).eval()
    stem = net.stem if arch.basic else lambda x: max_pool2d(net.layer1(net.relu(net.bn1(net.conv1(x)))), 2)
    image = torch.randn(1, 3, 64, 64, requires_grad=True)
    stem(image)[..., 8].sum().backward()
    columns = image.grad.abs().sum((0, 1, 2)).nonzero()
    centre = float(columns.min() + columns.max()) / 2
    assert (63 - (4 * (15 - 8) + centre - 4 * 8)) - centre == apart
    assert hourglass.codec(arch, CROWDPOSE14, (64, 64)).shift_flipped == (abs(apart - 4) < apart)


@pytest.mark.parametrize(
    "wrong",
    [{"channels": (8,) * 4}, {"stacks": 0}, {"channels": (8,), "blocks": (1,)}, {"blocks": (1, 2, 1, 1, 1)}],
)
def test_impossible_sizes_are_refused(wrong):
    with pytest.raises(ValueError, match="got 1 stacks|got 0 stacks"):
        Arch(**wrong)


def test_imagenet_weights_are_refused():
    with pytest.raises(ValueError, match=r"a\.pth: an hourglass does not start from ImageNet"):
        hourglass.load_imagenet(build(Arch(1, 1, (8, 8), (1, 1))), "a.pth")
