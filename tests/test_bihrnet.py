"""BiHRNet: what it costs, what is binary in it, how it starts from the real HRNet."""

import itertools
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from edgepose.models import bihrnet, hrnet, simplebaseline  # noqa: E402
from edgepose.models._binary import BinaryConv, RPReLU, RSign, Unit  # noqa: E402
from edgepose.models._operations import operations  # noqa: E402
from edgepose.models.bihrnet import Arch, build, infer  # noqa: E402

CHOICES = {
    "V0": {}, "V0b": {"binary_stem": True}, "V1": {"front": "real"}, "V2": {"transition": "first-real"},
    "V4": {"fuse": "up-real"}, "V5": {"fuse": "real"}, "V7": {"front": "real", "transition": "real", "fuse": "real"},
}  # fmt: skip
# OPs in millions at 256x192, 384x288 (17 joints) and 256x256 (16), then MB, as planned before there was code. That plan
# counted a binary 1x1 projection in the first block, where there is a bypass without weights, and the biases of the
# last layer; it left the learnt shifts and slopes (RSign, RPReLU) and the BatchNorms of sums out of the bytes.
PLANNED = {
    "V0": ((254, 570, 338, 3.9), (380, 855, None, 8.4)),
    "V0b": ((142, 320, 189, 3.8), (269, 604, None, 8.3)),
    "V1": ((1108, 2493, 1477, 5.0), (1235, 2778, None, 9.5)),
    "V2": ((588, 1323, 784, 4.8), (882, 1984, None, 9.7)),
    "V4": ((286, 644, 382, 4.8), (454, 1022, None, 10.3)),
    "V5": ((631, 1420, 842, 12.5), (1230, 2768, None, 27.7)),
    "V7": ((1848, 4159, 2464, 15.9), (2649, 5960, None, 33.3)),
}
SIZES = ((17, (256, 192)), (17, (384, 288)), (16, (256, 256)))
TINY = Arch(14, 8, 8, (1, 1, 1), ((1, 1), (1, 1, 1), (1, 1, 1, 1)))


def planned(net, found, joints, size):
    """OPs and bytes by the rule of the plan."""
    quarter = size[0] * size[1] // 16
    projection = 0 if net.arch.front == "real" else quarter * 64 * 256
    shifts = sum(p.numel() for m in net.modules() if isinstance(m, (RSign, RPReLU)) for p in m.parameters())
    merged = [m for s in (net.stage2, net.stage3, net.stage4) for e in s for m in e.acts]
    merged += [b.act for b in net.layer1 if net.arch.front != "real"]
    norms = sum(p.numel() for m in merged for p in m.bn.parameters())
    return found.ops + projection / 64 + joints * quarter, found.bytes - 4 * (shifts + norms)


def check_plan(choice, width, sizes):
    for (joints, size), ops in list(zip(SIZES, PLANNED[choice][width == 48], strict=False))[sizes]:
        if ops is None:
            continue
        with torch.device("meta"):
            net = build(Arch(joints, width, **CHOICES[choice]))
        found = operations(net, size)
        expected, octets = planned(net, found, joints, size)
        assert expected / 1e6 == pytest.approx(ops, abs=0.51)
        assert octets / 1e6 == pytest.approx(PLANNED[choice][width == 48][3], abs=0.051)


@pytest.mark.parametrize("choice", CHOICES)
def test_operations_and_bytes_as_planned(choice):
    check_plan(choice, 32, slice(1))


@pytest.mark.slow
@pytest.mark.parametrize("width", [32, 48])
@pytest.mark.parametrize("choice", CHOICES)
def test_operations_and_bytes_as_planned_at_every_size(choice, width):
    check_plan(choice, width, slice(None))


def test_operations_of_the_default():
    """By our own count, which is what `edgepose models` and cards show."""
    with torch.device("meta"):
        found = operations(build(Arch()), (256, 192))
        real = operations(hrnet.build(hrnet.Arch()), (256, 192))
        first = operations(build(Arch(real_weights=True)), (256, 192))
    assert (found.gmacs, found.gops, round(found.bops / 1e9, 3)) == (0.136, 0.253, 7.459)
    assert (real.gmacs, real.gops, real.bops, real.bits) == (7.645, None, 0, 0)
    assert round(real.macs + 0.0) == found.macs + found.bops + 3072 * 64 * 256  # but for the projection
    assert first.gops is None and first.macs == found.macs + found.bops, "real weights are multiplied"
    assert 0.1e9 < found.elementwise < 0.3e9
    assert found.bits == sum(m.weight.numel() for m in build(Arch()).modules() if isinstance(m, BinaryConv))


def test_binary_multiply_adds_by_hand():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3, padding=1), Unit(8, 4, ((3, 1), (3, 2)), 2))
    found = operations(net, (8, 8))
    assert (found.macs, found.bops) == (64 * 27 * 8, 16 * 9 * 8 * 4)
    assert (found.bits, found.real) == (9 * 8 * 4, 27 * 8 + 8 + 8 + 2 * 4 + 3 * 4)
    assert found.ops == found.macs + found.bops / 64
    assert found.bytes == found.bits / 8 + 4 * found.real
    assert found.elementwise == 64 * 8 + 16 * 4 * (2 + 3 + 1)


@pytest.mark.parametrize(
    "fields",
    [
        *({"front": f, "block": b} for f, b in itertools.product(bihrnet.FRONTS, bihrnet.BLOCKS)),
        *({"transition": t, "fuse": f} for t, f in itertools.product(bihrnet.TRANSITIONS, bihrnet.FUSES)),
        {"binary_stem": True}, {"blocks": ((0, 2), (0, 1, 1), (2, 1, 1, 3))}, {"modules": (1, 2, 1)}, {"width": 12},
    ],
    ids=lambda f: "-".join(map(str, f.values())),
)  # fmt: skip
def test_every_choice_runs_and_is_inferred_from_its_weights(fields):
    arch = replace(TINY, **fields)
    net = build(arch)
    assert infer(net.state_dict()) == arch
    (out,) = net(torch.randn(2, 3, 64, 64))
    assert out.shape == (2, 14, 16, 16)


def test_every_binary_convolution_takes_and_has_two_values():
    torch.manual_seed(0)
    net = build(replace(TINY, front="ir-b")).train()
    inputs = {}
    convs = {name: module for name, module in net.named_modules() if isinstance(module, BinaryConv)}
    for name, conv in convs.items():
        conv.register_forward_hook(lambda m, given, out, name=name: inputs.update({name: given[0]}))
    net(torch.randn(2, 3, 64, 64))
    assert inputs.keys() == convs.keys() and len(inputs) > 40
    assert all(set(bits.unique().tolist()) == {-1.0, 1.0} for bits in inputs.values())
    for conv in convs.values():  # the weights as seen from outside: what one +1 among -1 changes
        base = -torch.ones(1, conv.weight.shape[1], 9, 9)
        probe = base.clone()
        probe[0, 0, 4, 4] = 1
        change = (conv(probe) - conv(base)).abs()[0].flatten(1)
        scale = 2 * conv.weight.detach().abs().mean((1, 2, 3))
        assert all(len(row[row > 0.1 * s].unique()) > 0 for row, s in zip(change, scale, strict=True))
        for row, s in zip(change, scale, strict=True):
            torch.testing.assert_close(row[row > 0.1 * s], s.expand(int((row > 0.1 * s).sum())), rtol=1e-3, atol=1e-5)


def test_real_convolutions_are_the_stem_and_the_last_layer_alone():
    names = [k for k, m in build(Arch()).named_modules() if isinstance(m, torch.nn.Conv2d)]
    assert names == ["conv1", "conv2", "final_layer"]


def test_it_starts_from_the_real_twin(tmp_path):
    twin = hrnet.build(hrnet.Arch(14, 8, 8, TINY.modules, TINY.blocks))
    torch.save(twin.state_dict(), tmp_path / "twin.pth")
    for block in ("ms-a", "plain", "ms-c"):
        net = build(replace(TINY, block=block))
        bihrnet.load_imagenet(net, str(tmp_path / "twin.pth"))
        assert torch.equal(net.conv1.weight, twin.conv1.weight)
        assert torch.equal(net.final_layer.weight, twin.final_layer.weight)
        pairs = [
            (net.layer1[0].conv3, twin.layer1[0].conv3), (net.layer1[2].conv1, twin.layer1[2].conv1),
            (net.transition1[0], twin.transition1[0][0]), (net.transition1[1][0], twin.transition1[1][0][0]),
            (net.stage3[0].branches[2][0].conv2, twin.stage3[0].branches[2][0].conv2),
            (net.stage3[0].fuse_layers[0][2][0], twin.stage3[0].fuse_layers[0][2][0]),
            (net.stage3[0].fuse_layers[2][0][0], twin.stage3[0].fuse_layers[2][0][0][0]),
        ]  # fmt: skip
        for unit, conv in pairs:
            convs = list(unit.convs)[: 1 if unit.summed else None]
            assert torch.equal(torch.cat([c.weight for c in convs]), conv.weight)
    with pytest.raises(ValueError, match=r"twin\.pth has no kernel that fits"):
        bihrnet.load_imagenet(build(replace(TINY, width=12, planes=12)), str(tmp_path / "twin.pth"))


def test_a_binary_simplebaseline_is_one_field_away(tmp_path):
    arch = simplebaseline.Arch(14, (1, 1, 1, 1), False, 8, (16, 16, 16))
    twin, net = simplebaseline.build(arch), simplebaseline.build(replace(arch, binary=True))
    assert [k for k, m in net.named_modules() if isinstance(m, torch.nn.Conv2d)] == ["conv1", "final_layer"]
    torch.save(twin.state_dict(), tmp_path / "twin.pth")
    simplebaseline.load_imagenet(net, str(tmp_path / "twin.pth"))
    assert torch.equal(net.layer3[0].conv1.convs[0].weight, twin.layer3[0].conv1.weight)


@pytest.mark.parametrize("wrong", [{"front": "ir-d"}, {"block": "basic"}, {"fuse": "none"}, {"transition": "x"}])
def test_unknown_choices_are_refused(wrong):
    with pytest.raises(ValueError, match="known: "):
        Arch(**wrong)
