"""The runtime binary: torch networks packed, the file, the predictor."""

import struct
import zlib
from dataclasses import asdict, replace

import numpy as np
import pytest
from _tiny import SKELETON, batch

from edgepose.runtimes import _edgebin, _packed, binary

try:
    _edgebin.library()
except ValueError as error:
    pytest.skip(str(error), allow_module_level=True)
torch = pytest.importorskip("torch")

from edgepose import models  # noqa: E402
from edgepose.card import Card  # noqa: E402
from edgepose.codecs.topdown import TopDown  # noqa: E402
from edgepose.models import _binary, bihrnet  # noqa: E402
from edgepose.predictor import load  # noqa: E402
from edgepose.runtimes._order import words  # noqa: E402
from edgepose.weights import save  # noqa: E402

ARCH = bihrnet.Arch(joints=3, width=16, planes=16, modules=(1, 1, 1), blocks=((1, 1), (1, 1, 1), (1, 1, 1, 1)))
CARD = Card("bihrnet-w32", asdict(ARCH), TopDown(SKELETON, (64, 64)))
CHOICES = [
    {}, {"front": "ir-b"}, {"front": "ir-c", "block": "ms-b"}, {"front": "plain", "block": "plain"},
    {"front": "real", "block": "ms-c", "binary_stem": True}, {"transition": "real", "fuse": "real"},
    {"transition": "first-real", "fuse": "up-real", "width": 24}, {"width": 32, "centred": True},
]  # fmt: skip


def network(arch, seed=0):
    """A network whose norms have statistics and whose learnt shifts are not zero."""
    torch.manual_seed(seed)
    net = bihrnet.build(arch)
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
            elif isinstance(module, torch.nn.BatchNorm2d):
                module.momentum = None
                module.weight.uniform_(-1.5, 1.5)
                module.bias.uniform_(-0.5, 0.5)
            elif isinstance(module, (_binary.RSign, _binary.RPReLU)):
                for parameter in module.parameters():
                    parameter.uniform_(-0.5, 0.5)
        net.train()(torch.randn(4, 3, 64, 64))
    return net.eval()


def margin(net, images):
    """The maps, and how near any value was to the threshold of its sign."""
    least = []
    hooks = [
        m.register_forward_pre_hook(lambda m, x: least.append(float((x[0] + m.shift.view(-1, 1, 1)).abs().min())))
        for m in net.modules()
        if isinstance(m, _binary.RSign)
    ]
    with torch.inference_mode():
        maps = net(images)
    for hook in hooks:
        hook.remove()
    return maps, min(least)


@pytest.mark.parametrize("choice", CHOICES, ids=lambda c: "-".join(map(str, c.values())) or "default")
def test_packed_maps_are_those_of_the_float_simulation(choice, tmp_path):
    """To rounding, on a picture of which no value lies within rounding of a sign's threshold."""
    arch = replace(ARCH, **choice)
    net = network(arch)
    for seed in range(40):
        images = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 3, 64, 64), np.float32))
        (expected,), near = margin(net, images)
        if near > 2e-6:
            break
    else:
        pytest.fail("no picture without a near tie")
    binary.write(CARD, net, tmp_path / "m.edgebin")
    for threads in (1, 2):
        (found,) = binary.read(CARD, tmp_path / "m.edgebin", threads=threads)(images.numpy())
        np.testing.assert_allclose(found, expected.numpy(), rtol=0, atol=2e-6 * float(expected.abs().max()))


def test_sign_of_zero_is_plus_one_and_borders_are_minus_one(tmp_path):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.unit = _binary.Unit(3, 5, shortcut=False, act=False)

        def forward(self, x):
            return [self.unit(x)]

    torch.manual_seed(0)
    net = Net().eval()
    net.unit.convs[0].weight.data[0, 0, 0, 0] = 0.0
    images = torch.zeros(2, 3, 16, 16)
    images[1] = -1
    with torch.inference_mode():
        expected = net(images)[0].numpy()
    binary.write(CARD, net, tmp_path / "m.edgebin")
    found = binary.read(CARD, tmp_path / "m.edgebin")(images.numpy())[0]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert abs(expected[0, :, 0, 0] - expected[0, :, 8, 8]).max() > 0.1  # borders differ from the middle


def test_the_predictor_finds_the_same_joints(photos, tmp_path):
    arch = replace(ARCH, joints=17)
    net = network(arch)
    skeleton = models.skeleton_of(17)
    codec = TopDown(skeleton, (64, 64))
    save(tmp_path, Card("bihrnet-w32", asdict(arch), codec), net, ("pytorch", "binary"))
    boxes = np.array([[100, 60, 300, 460], [50, 50, 400, 400.0]])
    a, b = (
        load(tmp_path, runtime, threads=2, detector=lambda p: boxes)(photos / "s2d_100.jpg", boxes)
        for runtime in ("pytorch", "binary")
    )
    np.testing.assert_allclose(b.xy, a.xy, atol=1e-3)
    np.testing.assert_allclose(b.scores, a.scores, atol=1e-5)


def test_batches_and_sizes(tmp_path):
    binary.write(CARD, network(ARCH), tmp_path / "m.edgebin")
    run = binary.read(CARD, tmp_path / "m.edgebin")
    three = batch(3, 64, 96)
    (together,) = run(three)
    for i in range(3):
        np.testing.assert_array_equal(run(three[i : i + 1])[0][0], together[i])
    assert run(batch(0, 64, 64))[0].shape == (0, 3, 16, 16)
    with pytest.raises(ValueError, match="failed on a batch"):
        run(batch(1, 16, 16))
    with pytest.raises(ValueError, match="failed on a batch"):
        run(np.zeros((1, 4, 64, 64), np.float32))


def test_half_stores_real_weights_as_float16(tmp_path):
    net = network(ARCH)
    for half in (False, True):
        binary.write(CARD, net, tmp_path / f"{half}.edgebin", half)
    sizes = [(tmp_path / f"{half}.edgebin").stat().st_size for half in (False, True)]
    reals = sum(m.weight.numel() for m in net.modules() if isinstance(m, torch.nn.Conv2d))
    assert abs(sizes[0] - sizes[1] - 2 * reals) < 400
    assert binary.read(CARD, tmp_path / "True.edgebin")(batch(1, 64, 64))[0].shape == (1, 3, 16, 16)


def test_networks_that_cannot_be_packed(tmp_path):
    with pytest.raises(ValueError, match="no binary convolution"):
        binary.write(CARD, torch.nn.Conv2d(3, 3, 1), tmp_path / "m.edgebin")
    with pytest.raises(ValueError, match="real weights"):
        binary.write(CARD, bihrnet.build(replace(ARCH, real_weights=True)).eval(), tmp_path / "m.edgebin")
    pooled = torch.nn.Sequential(_binary.Unit(3, 16), torch.nn.AvgPool2d(2))
    with pytest.raises(ValueError, match=r"no AvgPool2d \(1\)"):
        binary.write(CARD, pooled, tmp_path / "m.edgebin")
    grouped = torch.nn.Sequential(_binary.Unit(3, 16), torch.nn.Conv2d(16, 16, 3, padding=1, groups=16))
    with pytest.raises(ValueError, match="no such convolution: 1"):
        binary.write(CARD, grouped, tmp_path / "m.edgebin")
    assert not list(tmp_path.iterdir())


def test_devices(tmp_path):
    with pytest.raises(ValueError, match="no device 'cuda'"):
        binary.read(CARD, tmp_path / "m.edgebin", "cuda")


def test_words_are_lowest_channel_first():
    bits = np.zeros((2, 40), bool)
    bits[0, [0, 31, 32]] = bits[1, 39] = True
    assert words(bits).tolist() == [[1 + 2**31, 1], [0, 2**7]]


# ── damaged files ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "m.edgebin"
    binary.write(CARD, network(ARCH), path)
    return path.read_bytes()


def refused(raw, tmp_path, match=""):
    path = tmp_path / "bad.edgebin"
    path.write_bytes(raw)
    with pytest.raises(ValueError, match=match) as caught:
        binary.read(CARD, path)(batch(1, 64, 64))
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_truncated_and_damaged_files_give_one_line(whole, tmp_path):
    rng = np.random.default_rng(0)
    for length in [0, 1, 7, 31, 32, 100, len(whole) // 2, len(whole) - 1]:
        refused(whole[:length], tmp_path, "edgebin file|it has .* bytes")
    refused(whole + b"\0", tmp_path, "it has .* bytes")
    for at in rng.integers(32, len(whole), 60):
        refused(whole[:at] + bytes([whole[at] ^ 1 << rng.integers(8)]) + whole[at + 1 :], tmp_path, "damaged")
    refused(whole[:8] + struct.pack("<I", 9) + whole[12:], tmp_path, "format is 9")
    with pytest.raises(ValueError, match="cannot read"):
        binary.read(CARD, tmp_path / "none.edgebin")


def test_files_with_a_right_checksum_and_a_wrong_graph(whole, tmp_path):
    """Random changes of the JSON behind a right checksum: an error or a network that runs, nothing else."""
    rng = np.random.default_rng(0)
    size = struct.unpack_from("<8sIIQQ", whole)[3]
    text, rest = whole[32 : 32 + size], whole[32 + size :]
    ran, said = 0, []
    for _ in range(150):
        new = bytearray(text)
        for _ in range(rng.integers(1, 4)):
            at = rng.integers(len(text.rstrip()))
            new[at] = rng.choice(np.frombuffer(b'0123456789-,[]{}"ae', np.uint8))
        body = bytes(new) + rest
        path = tmp_path / "changed.edgebin"
        path.write_bytes(_packed.HEADER.pack(_packed.MAGIC, _packed.FORMAT, zlib.crc32(body), size, len(rest)) + body)
        try:
            binary.read(CARD, path, threads=1)(batch(1, 64, 64))
            ran += 1
        except ValueError as error:
            said.append(str(error))
    assert ran < 150 and all("\n" not in line and str(path) in line for line in said)
