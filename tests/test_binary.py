"""Binary layers: what they compute, value by value, and what reaches their weights."""

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from edgepose import optim  # noqa: E402
from edgepose.models import _binary as binary  # noqa: E402
from edgepose.models import _binary_blocks as blocks  # noqa: E402
from edgepose.models._binary import BinaryConv, Bypass, RPReLU, RSign, Sign, Unit, WeightSign  # noqa: E402
from edgepose.models._folded import folded  # noqa: E402

PATHS = {"plain": ((3, 1),), "scales": blocks.SCALES, "both": blocks.BOTH, "one": ((1, 1),)}


def lively(module, *shape, seed=0):
    """`module` with weights and statistics that matter, in eval mode."""
    torch.manual_seed(seed)
    for p in module.parameters():
        if p.ndim == 1:
            p.data.add_(0.3 * torch.randn_like(p))
    module.train()
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.momentum = None
        module(torch.randn(shape))
    return module.eval()


def test_sign_of_zero_is_plus_one():
    x = torch.tensor([0.0, -0.0, 1e-30, -1e-30, 3.0, -3.0])
    assert Sign.apply(x).tolist() == [1, 1, 1, -1, 1, -1]
    assert WeightSign.apply(x).tolist() == [1, 1, 1, -1, 1, -1]


def test_slopes_of_the_signs():
    x = torch.tensor([-1.5, -1.0, -0.75, 0.0, 0.25, 0.99, 1.0, 2.0], requires_grad=True)
    Sign.apply(x).sum().backward()
    assert x.grad.tolist() == pytest.approx([0, 0, 0.5, 2, 1.5, 0.02, 0, 0], abs=1e-6)
    w = torch.tensor([-1.5, -1.0, -0.2, 0.0, 1.0, 1.01], requires_grad=True)
    (3 * WeightSign.apply(w)).sum().backward()
    assert w.grad.tolist() == [0, 3, 3, 3, 3, 0]


def test_rprelu_is_shift_slope_and_rise():
    act = RPReLU(2)
    assert act.slope.tolist() == [0.25, 0.25] and not act.shift.any() and not act.rise.any()
    act.shift.data, act.slope.data, act.rise.data = (torch.tensor(v) for v in ([1.0, -1], [0.5, 2], [10.0, 20]))
    x = torch.tensor([[[[-3.0, 1.0]], [[-3.0, 1.5]]]])
    assert act(x).flatten().tolist() == [9, 12, 12, 20.5]
    x = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    slope = torch.rand(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(binary.ChannelPReLU.apply, (x, slope))


@pytest.mark.parametrize(("kernel", "stride", "dilation"), [(1, 1, 1), (3, 1, 1), (3, 2, 1), (3, 1, 2)])
def test_binary_convolution_counts_bits_with_a_border_of_minus_one(kernel, stride, dilation):
    """Against a plain loop over integers: matches less mismatches, times the mean magnitude of the filter."""
    torch.manual_seed(0)
    conv = BinaryConv(5, 4, kernel, stride, dilation)
    signs = binary.signs(torch.randn(2, 5, 7, 6))
    pad = dilation * (kernel // 2)
    wide = functional.pad(signs, (pad,) * 4, value=-1.0)
    found = conv(signs)
    bits = conv.weight >= 0
    for n, o, y, x in [(0, 0, 0, 0), (1, 3, 2, 1), (0, 2, found.shape[2] - 1, found.shape[3] - 1)]:
        count = 0
        for c in range(5):
            for i in range(kernel):
                for j in range(kernel):
                    here = wide[n, c, y * stride + i * dilation, x * stride + j * dilation] > 0
                    count += 1 if bool(here) == bool(bits[o, c, i, j]) else -1
        assert found[n, o, y, x].item() == (count * conv.weight[o].abs().mean()).item()


def test_the_scale_is_detached_and_centring_takes_the_mean_over_input_channels_off():
    torch.manual_seed(0)
    conv = BinaryConv(5, 4, 3)
    conv.weight.data += 1.5  # all signs equal, all outside [-1, 1]: no gradient but through the scale
    conv(torch.ones(1, 5, 4, 4)).sum().backward()
    assert not conv.weight.grad.any()
    conv.centred = True
    expected = conv.weight - conv.weight.mean(1, keepdim=True)
    assert torch.equal(conv.latent(), expected) and (expected < 0).any()
    out = conv(torch.ones(1, 5, 4, 4))[0, 1, 1, 1]
    assert out.item() == pytest.approx((binary.signs(expected[1]).sum() * expected[1].abs().mean()).item())


def test_bypass_repeats_takes_means_and_halves():
    x = torch.randn(2, 6, 4, 4)
    assert torch.equal(Bypass(6, 6)(x), x)
    more = Bypass(6, 15)(x)
    assert all(torch.equal(more[:, o], x[:, o % 6]) for o in range(15))
    for b in (2, 3, 4, 5):
        for o in range(b):
            torch.testing.assert_close(Bypass(6, b)(x)[:, o], x[:, o::b].mean(1))
    torch.testing.assert_close(Bypass(6, 6, 2)(x)[:, :, 1, 0], x[:, :, 2:4, 0:2].mean((2, 3)))


@pytest.mark.parametrize("kind", PATHS)
def test_unit_is_its_formula(kind):
    unit = lively(Unit(8, 8, PATHS[kind], summed=kind == "both"), 4, 8, 9, 7)
    x = torch.randn(2, 8, 9, 7)
    bits = binary.signs(x + unit.sign.shift.view(-1, 1, 1))
    outs = []
    for conv in unit.convs:
        pad = conv.dilation * (conv.weight.shape[-1] // 2)
        wide = functional.pad(bits, (pad,) * 4, value=-1.0)
        alpha = conv.weight.abs().mean((1, 2, 3)).view(-1, 1, 1)
        outs.append(alpha * functional.conv2d(wide, binary.signs(conv.weight), dilation=conv.dilation))
    assert [len(c.weight) for c in unit.convs] == {"plain": [8], "scales": [4, 4], "both": [8, 8], "one": [8]}[kind]
    y = unit.bn(sum(outs) if kind == "both" else torch.cat(outs, 1)) + x
    act = unit.act
    h = y + act.shift.view(-1, 1, 1)
    expected = torch.where(h > 0, h, h * act.slope.view(-1, 1, 1)) + act.rise.view(-1, 1, 1)
    torch.testing.assert_close(unit(x), expected)


def test_every_weight_of_a_unit_learns_its_shift_too():
    torch.manual_seed(0)
    unit = Unit(4, 8, blocks.SCALES, 2)
    (unit(torch.randn(3, 4, 8, 8)) * torch.randn(3, 8, 4, 4)).sum().backward()
    assert [k for k, p in unit.named_parameters() if not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(
    "made",
    [
        lambda: Unit(8, 8, blocks.SCALES),
        lambda: Unit(8, 12, blocks.BOTH, 2, summed=True),
        lambda: Unit(8, 4, ((1, 1),), act=False),
        lambda: blocks.Residual(8, 16, 2),
        lambda: blocks.Bottleneck(8, 8, gate=True),
        lambda: blocks.Bottleneck(8, 8, 2, inner=False),
        lambda: blocks.Hierarchical(8, 12),
    ],
)
def test_folded_units_give_the_same_values(made):
    module = nn.Sequential(lively(made(), 4, 8, 8, 8)).double()  # in float64 no sign is near enough to zero to flip
    twin = folded(module)
    assert not any(isinstance(m, (BinaryConv, RSign)) for m in twin.modules())
    x = torch.randn(2, 8, 8, 8, dtype=torch.float64)
    torch.testing.assert_close(twin(x), module(x), rtol=1e-6, atol=1e-6)


def test_latent_weights_do_not_decay_but_real_ones_do():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), Unit(8, 8))
    for real in (False, True):
        binary.configure(net, real_weights=real)
        decay = {id(p): g["weight_decay"] for g in optim.groups(net, 0.1) for p in g["params"]}
        assert decay[id(net[0].weight)] == 0.1
        assert decay[id(net[1].convs[0].weight)] == (0.1 if real else 0.0)
        assert decay[id(net[1].act.slope)] == 0.0


def test_real_weights_are_used_as_they_are():
    conv = BinaryConv(3, 2, 1)
    binary.configure(conv, real_weights=True)
    x = binary.signs(torch.randn(1, 3, 2, 2))
    torch.testing.assert_close(conv(x), functional.conv2d(x, conv.weight))
