"""The torch twin of an ONNX graph, row strips, and peaks found in the graph."""

from dataclasses import replace

import _tiny
import numpy as np
import pytest

from edgepose.card import Card
from edgepose.codecs.bottomup import BottomUp
from edgepose.codecs.heatmap import peaks
from edgepose.codecs.topdown import TopDown
from edgepose.runtimes import onnx as engine
from edgepose.weights import BUNDLED

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")

from torch import nn  # noqa: E402

from edgepose.runtimes._peaks import with_peaks  # noqa: E402
from edgepose.runtimes._strips import Strips, split  # noqa: E402
from edgepose.runtimes._twin import Twin  # noqa: E402


@pytest.mark.parametrize("name", ["efficientlite-0", "efficientlite-0-person"])
@pytest.mark.parametrize("fixed", [False, True])
def test_a_twin_gives_the_maps_of_its_graph(name, fixed):
    path = BUNDLED / name / "model.onnx"
    run = engine.read(Card.read(path.parent), path, threads=1)
    size = (128, 96) if name.endswith("person") else (64, 128)
    twin = Twin(onnx.load(path), size if fixed else None).eval()
    images = _tiny.batch(1 if fixed else 2, *size)
    with torch.inference_mode():
        found = twin(torch.from_numpy(images))
    for a, b in zip(found, run(images), strict=True):
        assert np.abs(a.numpy() - b).max() <= 1e-5 * np.abs(b).max()


def test_a_twin_for_one_size_computes_the_ramp_of_tags_beforehand():
    model = onnx.load(BUNDLED / "efficientlite-0" / "model.onnx")
    free, fixed = Twin(model), Twin(model, (64, 128))
    assert any(step[0].__name__ == "_range" for step in free.steps if callable(step[0]))
    assert not any(step[0].__name__ in ("_range", "_shape") for step in fixed.steps if callable(step[0]))


def test_an_unknown_operator_is_named():
    model = _tiny.graph()
    model.graph.node[0].op_type = "Erf"
    with pytest.raises(ValueError, match="the operator Erf of this graph is not known"):
        Twin(model)


# ── strips ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("kernel", "stride", "rows"), [(7, 1, [3, 3, 1]), (7, 2, [3, 3, 1]), (9, 1, [2, 2, 2, 2, 1])])
def test_strips_sum_to_the_convolution(kernel, stride, rows):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 6, kernel, stride, kernel // 2, groups=6)
    strips = Strips(conv)
    assert [part.kernel_size[0] for part in strips.parts] == rows
    images = torch.randn(2, 6, 22, 31)
    assert torch.allclose(strips(images), conv(images), atol=1e-5)


def test_split_leaves_the_network_as_it_was_and_its_maps_alike():
    from edgepose.models import litepose

    torch.manual_seed(0)
    arch = litepose.Arch(3, 8, (8, 8, 8, 8), (1, 1, 2, 1), kernels=(7, 5, 7, 3), deconv_channels=(8, 8, 8))
    net = litepose.build(arch).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
    made = split(net)
    assert not any(isinstance(m, Strips) for m in net.modules())
    assert sum(isinstance(m, Strips) for m in made.modules()) == 3  # one 7x7 in the first stage, two in the third
    widest = max(m.kernel_size[0] * m.kernel_size[1] for m in made.modules() if isinstance(m, nn.Conv2d))
    assert widest == 25
    images = torch.from_numpy(_tiny.batch(1, 64, 96))
    with torch.inference_mode():
        for a, b in zip(made(images), net(images), strict=True):
            assert (a - b).abs().max() <= 1e-5 * b.abs().max()


# ── peaks ────────────────────────────────────────────────────────────────────────────────────────────────────────────


class Fixed(nn.Module):
    """A network that gives the same maps whatever it sees."""

    def __init__(self, *maps):
        super().__init__()
        self.maps = [torch.from_numpy(np.ascontiguousarray(m, np.float32)) for m in maps]

    def forward(self, images):
        return self.maps


def bumps(rng, joints, h, w, people):
    """Maps of Gaussians at `people` (n, J, 2) with heights between 0.4 and 1."""
    y, x = np.mgrid[:h, :w]
    out = np.zeros((joints, h, w), np.float32)
    for person in people:
        for k, (px, py) in enumerate(person):
            bump = rng.uniform(0.4, 1) * np.exp(-((x - px) ** 2 + (y - py) ** 2) / 8)
            out[k] = np.maximum(out[k], bump)
    return out


@pytest.mark.parametrize("method", ["shift", "dark", "udp"])
def test_peaks_of_crops_are_those_of_the_codec(method):
    rng = np.random.default_rng(0)
    codec = TopDown(input_size=(96, 128), flip=False, decode_with=method, peaks_in_graph=True)
    at = rng.uniform([-1, -1], [24, 32], (3, 17, 2))  # some at the edge
    maps = np.stack([bumps(rng, 17, 32, 24, person[None]) for person in at])
    (found,) = with_peaks(Fixed(maps), codec)(torch.zeros(3, 3, 128, 96))
    xy, value = peaks(maps, method, codec.sigma)
    assert np.abs(found[..., :2].numpy() - xy).max() < 1e-4
    assert np.abs(found[..., 2].numpy() - value).max() < 1e-6
    frames = [codec.frame(np.array([0, 0, 90, 120]))] * 3
    a = codec.decode([[found.numpy()]], [frames])
    b = replace(codec, peaks_in_graph=False).decode([[maps]], [frames])
    assert np.abs(a.xy - b.xy).max() < 1e-3
    assert np.array_equal(a.person_scores, b.person_scores)


@pytest.mark.parametrize("adjust", [False, True])
def test_peaks_of_whole_pictures_give_the_codecs_people(adjust):
    rng = np.random.default_rng(1)
    codec = BottomUp(_tiny.SKELETON, 64, flip=False, refine=False, adjust=adjust, peaks_in_graph=True)
    people = rng.uniform(3, 28, (4, 3, 2))
    fine, coarse = bumps(rng, 3, 64, 96, people * 2), bumps(rng, 3, 32, 48, people)
    tags = np.broadcast_to(np.arange(48) // 6 * 2.0, (3, 32, 48))
    maps = [np.concatenate([coarse, tags])[None], fine[None]]
    image = np.zeros((64, 96, 3), np.uint8)
    batches, warps = codec.encode(image)
    (found,) = with_peaks(Fixed(*maps), codec)(torch.from_numpy(batches[0]))
    assert found.shape == (1, 3, 30, 4)
    a = codec.decode([[found.numpy()]], warps)
    b = replace(codec, peaks_in_graph=False).decode([[np.asarray(m, np.float32) for m in maps]], warps)
    assert len(a) == len(b) > 2
    assert np.abs(a.xy - b.xy).max() < 1e-3
    assert np.abs(a.scores - b.scores).max() < 1e-5


def test_peaks_in_the_graph_exclude_what_needs_whole_maps():
    for wrong in ({"flip": True}, {"refine": True}, {"scales": (0.5, 1.0)}):
        with pytest.raises(ValueError, match="peaks_in_graph"):
            replace(BottomUp(flip=False, refine=False), peaks_in_graph=True, **wrong)
    with pytest.raises(ValueError, match="peaks_in_graph"):
        TopDown(flip=True, peaks_in_graph=True)
    codec = BottomUp(_tiny.SKELETON, flip=False, refine=False, peaks_in_graph=True)
    with pytest.raises(ValueError, match=r"peaks of shape \(1, 3, 2, 4\)"):
        codec.decode([[np.zeros((1, 3, 2, 4), np.float32)]], [[codec.frame((64, 64))]])
