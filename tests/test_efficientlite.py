"""EfficientNet-Lite under the fusion head: ImageNet weights land where they belong; tags may begin as positions."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgepose.codecs import MEAN, STD  # noqa: E402
from edgepose.models import efficientlite, litepose  # noqa: E402


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory):
    """A made-up EfficientNet-Lite0 checkpoint in the published layout."""
    torch.manual_seed(0)
    state, a, i = {}, 32, 0

    def norm(name, c):
        for field in ("weight", "bias", "running_mean"):
            state[f"{name}.{field}"] = torch.randn(c)
        state[f"{name}.running_var"] = torch.rand(c) + 0.5
        state[f"{name}.num_batches_tracked"] = torch.tensor(1)

    state["_conv_stem.weight"] = torch.randn(32, 3, 3, 3)
    norm("_bn0", 32)
    for expansion, b, n, _, k in efficientlite.BLOCKS:
        for _ in range(n):
            m = a * expansion
            if expansion > 1:
                state[f"_blocks.{i}._expand_conv.weight"] = torch.randn(m, a, 1, 1)
                norm(f"_blocks.{i}._bn0", m)
            state[f"_blocks.{i}._depthwise_conv.weight"] = torch.randn(m, 1, k, k)
            norm(f"_blocks.{i}._bn1", m)
            state[f"_blocks.{i}._project_conv.weight"] = torch.randn(b, m, 1, 1)
            norm(f"_blocks.{i}._bn2", b)
            a, i = b, i + 1
    state["_fc.weight"] = torch.randn(1000, 1280)
    path = tmp_path_factory.mktemp("imagenet") / "lite0.pth"
    torch.save(state, path)
    return path, state


def test_imagenet_weights_are_put_in_their_places(imagenet):
    path, state = imagenet
    net = efficientlite.EfficientLite()
    efficientlite.load_imagenet(net, str(path))
    assert torch.equal(net.stages[1][1].expand[0].weight, state["_blocks.2._expand_conv.weight"])
    assert torch.equal(net.stages[6][0].project[1].running_mean, state["_blocks.15._bn2.running_mean"])
    assert torch.equal(net.stages[0][0].depthwise[1].bias, state["_blocks.0._bn1.bias"])


def test_the_stem_sees_pixels_as_it_was_trained_to(imagenet):
    """(pixel - 127) / 128 there, (pixel / 255 - mean) / deviation here: the same but for a constant."""
    path, state = imagenet
    net = efficientlite.EfficientLite()
    efficientlite.load_imagenet(net, str(path))
    pixels = torch.randint(0, 256, (2, 1, 3, 8, 8)).float()
    theirs = torch.nn.functional.conv2d((pixels[0] - pixels[1]) / 128, state["_conv_stem.weight"])
    ours = [(p / 255 - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None] for p in pixels]
    stem = net.stem[0].weight
    given = torch.nn.functional.conv2d(ours[0], stem) - torch.nn.functional.conv2d(ours[1], stem)
    assert torch.allclose(given, theirs, atol=1e-4)


def test_other_checkpoints_are_refused(imagenet, tmp_path):
    _, state = imagenet
    torch.save({k: v for k, v in state.items() if "_blocks.7._expand" not in k}, tmp_path / "part.pth")
    with pytest.raises(ValueError, match=r"is no EfficientNet-Lite0.*stages\.3\.2\.expand"):
        efficientlite.load_imagenet(efficientlite.EfficientLite(), str(tmp_path / "part.pth"))


def test_litepose_starts_from_the_same_weights(imagenet):
    """The stem is the donor's own; kernels sit in the middle of the larger ones; extra blocks begin as the identity."""
    path, state = imagenet
    net = litepose.LitePose()
    litepose.load_imagenet(net, str(path))
    assert torch.equal(net.first[1][0].weight, state["_blocks.0._depthwise_conv.weight"])
    assert sorted(net.first[3].bias.tolist()) == sorted(state["_blocks.0._bn2.bias"].tolist())
    kernel = net.stage[0][0].depth_conv[0].weight
    donors = {tuple(w.flatten().tolist()) for w in state["_blocks.1._depthwise_conv.weight"]}
    assert all(tuple(k.flatten().tolist()) in donors for k in kernel[:, :, 2:5, 2:5])
    assert not kernel[:, :, :2].any()
    x = torch.randn(1, 16, 8, 8)
    block = net.stage[0][5].eval()
    torch.nn.init.zeros_(block.point_conv[1].bias)
    assert torch.equal(block(x), x)


@pytest.mark.parametrize("module", [litepose, efficientlite], ids=lambda m: m.__name__.split(".")[-1])
def test_a_tag_ramp_adds_positions_to_the_tags_alone(module):
    torch.manual_seed(0)
    image = torch.randn(1, 3, 64, 128)
    plain, with_ramp = (module.build(module.Arch(tag_ramp=unit)).eval() for unit in (0.0, 48.0))
    with_ramp.load_state_dict(plain.state_dict())
    with torch.inference_mode():
        a, b = plain(image), with_ramp(image)
    assert torch.equal(a[1], b[1])
    assert torch.equal(a[0][:, :17], b[0][:, :17])
    ramp = (b[0] - a[0])[0, 17:].numpy()
    y, x = np.mgrid[:16, :32] * 4.0
    np.testing.assert_allclose(ramp, np.broadcast_to((x + y / 2) / 48, ramp.shape), atol=1e-5)
