"""What every network in `edgepose.models` promises, and that zoo.json is up to date."""

import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")

from edgepose import folder, models  # noqa: E402
from edgepose.card import Card  # noqa: E402
from edgepose.models.__main__ import text  # noqa: E402
from edgepose.skeleton import COCO17, CROWDPOSE14  # noqa: E402

NAMES = models.names()


def test_names_follow_the_files():
    assert {name.split("-")[0] for name in NAMES} == set(folder.names("edgepose.models"))
    assert "litepose-xs" in NAMES


@pytest.mark.parametrize("name", NAMES)
def test_outputs_and_gradients(name):
    """One map per stride of the codec, finest last; joint heatmaps first; every weight learns."""
    card = models.card(name)
    net = models.build(card)
    outputs = net(torch.randn(2, 3, 64, 128))
    sizes = [(64 // s, 128 // s) for s in card.codec.strides]
    assert [tuple(o.shape[2:]) for o in outputs] == sizes
    assert [o.shape[1] for o in outputs] == [2 * len(COCO17), len(COCO17)]
    sum((o * torch.randn_like(o)).sum() for o in outputs).backward()
    assert [k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("skeleton", [COCO17, CROWDPOSE14], ids=lambda s: s.name)
def test_card_round_trip(name, skeleton, tmp_path):
    card = models.card(name, skeleton)
    card.write(tmp_path)
    again = Card.read(tmp_path)
    assert again == card
    shapes = [(k, v.shape) for k, v in models.build(card).state_dict().items()]
    assert [(k, v.shape) for k, v in models.build(again).state_dict().items()] == shapes


@pytest.mark.parametrize("name", NAMES)
def test_arch_is_inferred_from_the_weights(name):
    card = models.card(name)
    module = folder.entry("edgepose.models", card.family)
    assert module.infer(models.build(card).state_dict()) == module.Arch(**card.arch)


SMALL = [next(n for n in NAMES if n.startswith(file)) for file in folder.names("edgepose.models")]
RUNTIMES = folder.names("edgepose.runtimes")
NEEDS = {"onnx": ("onnx", "onnxscript"), "pytorch": ("safetensors",)}


@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", [n if n in SMALL else pytest.param(n, marks=pytest.mark.slow) for n in NAMES])
def test_every_runtime_agrees_with_the_network(name, runtime, tmp_path):
    for module in NEEDS[runtime]:
        pytest.importorskip(module)
    torch.manual_seed(0)
    card = models.card(name)
    net = models.build(card).eval()
    for key, buffer in net.named_buffers():  # norms with something to fold
        if key.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + (0.5 if key.endswith("var") else 0))
    engine = folder.entry("edgepose.runtimes", runtime)
    path = tmp_path / f"model.{engine.SUFFIX}"
    engine.write(card, net, path)
    run = engine.read(card, path)
    for shape in ((1, 3, 128, 192), (2, 3, 64, 64)):
        batch = torch.randn(shape)
        with torch.inference_mode():
            expected = [maps.numpy() for maps in net(batch)]
        found = run(batch.numpy())
        assert [m.shape for m in found] == [m.shape for m in expected]
        for a, b in zip(found, expected, strict=True):
            assert abs(a - b).max() <= 1e-4 * abs(b).max()


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="litepose-xs"):
        models.card("litepose-xxs")
    with pytest.raises(ValueError, match="litepose"):
        models.build(Card("litpose-xs", {}, models.card("litepose-xs").codec))
    with pytest.raises(ValueError, match="depth"):
        models.build(Card("litepose-xs", {"depth": 3}, models.card("litepose-xs").codec))


def test_zoo_file_is_up_to_date():
    assert models.ZOO_FILE.read_text() == text(), "run: python -m edgepose.models"


def test_zoo_is_read_without_torch():
    code = "import sys, edgepose.models as m; assert m.zoo(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
