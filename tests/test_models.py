"""What every network in `edgepose.models` promises, and that zoo.json is up to date."""

import functools
import subprocess
import sys
from dataclasses import replace

import pytest

torch = pytest.importorskip("torch")

from edgepose import folder, models  # noqa: E402
from edgepose.card import Card, typed  # noqa: E402
from edgepose.codecs.bottomup import BottomUp  # noqa: E402
from edgepose.models.__main__ import text  # noqa: E402
from edgepose.models._binary import is_binary  # noqa: E402
from edgepose.recalibrate import statistics  # noqa: E402
from edgepose.runtimes import _edgebin  # noqa: E402
from edgepose.skeleton import CROWDPOSE14  # noqa: E402

NAMES = models.names()
known = functools.cache(models.card)
FACTS = {row["name"]: row for row in models.zoo()}


def card(name):
    return known(name, None)


def networks(names):
    """The names without those that differ from an earlier one in their input alone."""
    seen = {}
    for name in names:
        file, _, variant = name.partition("-")
        arch, _ = folder.entry("edgepose.models", file).ARCHS[variant]
        seen.setdefault((file, replace(arch, joints=0)), name)
    return list(seen.values())


def fact(name, key):
    return FACTS[name][key] if name in FACTS else 0  # test_zoo_file_is_up_to_date says what to do


def slow_unless(fine, names):
    return [name if fine(name) else pytest.param(name, marks=pytest.mark.slow) for name in names]


def probe(card, *batches):
    """Shapes of small inputs that the network takes: whole pictures of any multiple of 64, crops of one size."""
    size = card.codec.input_size
    shapes = [(64, 128), (128, 192), (64, 64)] if isinstance(size, int) else [size[::-1]] * 3
    return [(n, 3, *hw) for n, hw in zip(batches, shapes, strict=False)]


def unused(name):
    """Weights that released checkpoints have and the forward pass does not need."""
    return getattr(folder.entry("edgepose.models", name.split("-")[0]), "UNUSED", ())


def test_names_follow_the_files():
    assert {name.split("-")[0] for name in NAMES} == set(folder.names("edgepose.models"))
    assert "litepose-xs" in NAMES


@pytest.mark.parametrize("name", slow_unless(lambda name: fact(name, "params") < 4e7, networks(NAMES)))
def test_outputs_and_gradients(name):
    """Maps at the codec's strides, finest last; joint heatmaps first; every weight learns."""
    codec = card(name).codec
    torch.manual_seed(0)
    net = models.build(card(name))
    for p in net.parameters():  # what begins as the identity learns from the second step on
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    ((n, _, h, w),) = shapes = probe(card(name), 1)
    outputs = net(torch.randn(shapes[0]))
    joints = len(codec.skeleton)
    if isinstance(codec, BottomUp):
        assert [tuple(o.shape) for o in outputs] == [
            (n, c * joints, h // s, w // s) for c, s in zip((2, 1), codec.strides, strict=True)
        ]
    else:
        taught = tuple((card(name).arch.get("refine") or {}).get("parts", ()))  # body parts come first (RMPG)
        assert tuple(o.shape[1] for o in outputs[: len(taught)]) == taught
        whole = {tuple(o.shape) for o in outputs[len(taught) :]}
        assert whole == {(n, joints, h // codec.stride, w // codec.stride)}
    for _ in range(8):  # a block may be left out by chance, but not every time
        sum((o * torch.randn_like(o)).sum() for o in outputs).backward()
        still = {k for k, p in net.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0}
        if all(k.startswith(unused(name)) for k in still):
            break
        outputs = net(torch.randn(shapes[0]))
    assert still == {k for k in still if k.startswith(unused(name))}


@pytest.mark.parametrize("name", networks(NAMES))
def test_card_round_trip(name, tmp_path):
    card(name).write(tmp_path)
    again = Card.read(tmp_path)
    assert again == card(name)
    with torch.device("meta"):
        shapes = [(k, v.shape) for k, v in models.build(card(name)).state_dict().items()]
        assert [(k, v.shape) for k, v in models.build(again).state_dict().items()] == shapes


@pytest.mark.parametrize("name", networks(NAMES))
def test_arch_is_inferred_from_the_weights(name):
    module = folder.entry("edgepose.models", card(name).family)
    with torch.device("meta"):
        state = models.build(card(name)).state_dict()
    assert module.infer(module.native(state)) == typed(module.Arch, card(name).arch, "arch.")


def smallest(names):
    """The cheapest network of every file: one for whole pictures, for crops, and a binary one, where it has them."""
    seen = {}
    for name in sorted(names, key=lambda n: fact(n, "gmacs")):
        file, _, variant = name.partition("-")
        _, size = folder.entry("edgepose.models", file).ARCHS[variant]
        seen.setdefault((file, isinstance(size, int), bool(fact(name, "gops"))), name)
    return sorted(seen.values())


SMALL = smallest(NAMES)
RUNTIMES = folder.names("edgepose.runtimes")
TOLERANCE = {"ncnn": 1e-3}  # of the maps' range; it computes 3x3 convolutions by Winograd's sums. Others: 1e-4
ELSEWHERE = {"coreml": "Core ML runs on macOS alone", "tensorrt": "TensorRT needs an NVIDIA GPU"}
CANNOT = {
    ("ncnn", "vitpose"): "pnnx leaves operators of attention that ncnn lacks",
    ("ncnn", "bihrnet"): "pnnx cannot trace the sign with its own gradient",
    ("ncnn", "simplebaseline-r18-binary"): "pnnx cannot trace the sign with its own gradient",
}


def shallow(card):
    """The card of the same network with one block, or module, wherever its arch counts them."""

    def one(counts):
        return [one(c) for c in counts] if isinstance(counts, list) else min(counts, 1)

    counted = {k: one(v) for k, v in card.arch.items() if k in ("blocks", "modules", "depth")}
    return replace(card, arch=card.arch | counted)


@pytest.mark.parametrize("name", SMALL)
def test_other_skeletons(name):
    made = models.card(name, CROWDPOSE14)
    assert made.codec.skeleton == CROWDPOSE14
    with torch.device("meta"):
        net = models.build(made)
        assert net(torch.empty(probe(made, 1)[0]))[-1].shape[1] == 14


def small_pairs():
    """Small networks with runtimes; those that are slow to export to, but for three networks, are slow tests."""
    quick, few = ("onnx", "pytorch", "ncnn"), ("litepose-xs", "efficientlite-0-person", "simplebaseline-r18")
    for name in SMALL:
        for runtime in RUNTIMES:
            slow = runtime not in quick and name not in few
            yield pytest.param(name, runtime, marks=pytest.mark.slow if slow else ())


@pytest.mark.parametrize(("name", "runtime"), small_pairs())
def test_every_runtime_agrees_with_the_network(name, runtime, tmp_path):
    """The smallest network of every file, without its repetitions; whole networks are slow to export."""
    agree(shallow(card(name)), runtime, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
@pytest.mark.parametrize("name", networks(NAMES))
def test_every_runtime_agrees_with_every_network(name, runtime, tmp_path):
    agree(card(name), runtime, tmp_path)


def runs_here(runtime):
    """The module of a runtime; skips, with the reason, where it cannot run."""
    engine = folder.entry("edgepose.runtimes", runtime)
    for module in dict.fromkeys((*engine.WRITES, *engine.READS)):
        pytest.importorskip(module)
    if runtime == "coreml" and sys.platform != "darwin":
        pytest.skip(ELSEWHERE[runtime])
    if runtime == "tensorrt" and not torch.cuda.is_available():
        pytest.skip(ELSEWHERE[runtime])
    if runtime == "binary":
        try:
            _edgebin.library()
        except ValueError as error:
            pytest.skip(str(error))
    return engine


def agree(card, runtime, tmp_path):
    engine = runs_here(runtime)
    for what in (card.family, card.model):
        if (runtime, what) in CANNOT:
            pytest.skip(CANNOT[runtime, what])
    torch.manual_seed(0)
    net = models.build(card).eval()
    if is_binary(net):
        agree_but_for_ties(narrow(card), runtime, tmp_path)
        return
    for key, buffer in net.named_buffers():  # norms with something to fold
        if key.endswith(("running_mean", "running_var")):
            buffer.copy_(torch.rand_like(buffer) + (0.5 if key.endswith("var") else 0))
    if runtime == "binary" and not is_binary(net):
        with pytest.raises(ValueError, match="no binary convolution"):
            engine.write(card, net, tmp_path / "model.edgebin")
        return
    shapes = probe(card, 0, 1, 2)[1:]
    if not engine.FREE and isinstance(card.codec, BottomUp):
        card, shapes = replace(card, codec=replace(card.codec, canvas=(192, 128))), [(n, 3, 128, 192) for n in (1, 2)]
    path = tmp_path / f"model.{engine.SUFFIX}"
    engine.write(card, net, path)
    run = engine.read(card, path, threads=1)
    for shape in shapes:
        batch = torch.randn(shape)
        with torch.inference_mode():
            expected = [maps.numpy() for maps in net(batch)]
        found = run(batch.numpy())
        assert [m.shape for m in found] == [m.shape for m in expected]
        for a, b in zip(found, expected, strict=True):
            assert abs(a - b).max() <= TOLERANCE.get(runtime, 1e-4) * abs(b).max()
    if not engine.FREE:
        with pytest.raises(ValueError, match="this file takes pictures of"):
            run(torch.randn(1, 3, 64, 64).numpy())


def narrow(card):
    """The card of the same network with few channels, for small crops."""
    sizes = {"width": 8, "planes": 8, "stem": 8, "deconv_channels": (8, 8, 8)}
    arch = card.arch | {k: v for k, v in sizes.items() if k in card.arch}
    return replace(card, arch=arch, codec=replace(card.codec, input_size=(64, 96)))


def agree_but_for_ties(card, runtime, tmp_path):
    """Another order of sums may flip a sign that is on a rounding tie, and in a random binary network one flip changes
    the maps of its crop everywhere. So most crops, of a network with few signs, must agree to 1e-4."""
    net = models.build(card)
    statistics(net, [torch.randn(8, 3, 96, 64)])  # so that signs are near their thresholds, of either kind
    engine = folder.entry("edgepose.runtimes", runtime)
    path = tmp_path / f"model.{engine.SUFFIX}"
    engine.write(card, net, path)
    run, same = engine.read(card, path), 0
    for _ in range(8):
        crop = torch.randn(1, 3, 96, 64)
        with torch.inference_mode():
            (expected,) = (maps.numpy() for maps in net(crop))
        (found,) = run(crop.numpy())
        assert found.shape == expected.shape
        same += abs(found - expected).max() <= 1e-4 * abs(expected).max()
    assert same >= 6


def test_unknown_names_are_answered_with_the_nearest():
    with pytest.raises(ValueError, match="litepose-xs"):
        models.card("litepose-xxs")
    with pytest.raises(ValueError, match="litepose"):
        models.build(Card("litpose-xs", {}, models.card("litepose-xs").codec))
    with pytest.raises(ValueError, match="depth"):
        models.build(Card("litepose-xs", {"depth": 3}, models.card("litepose-xs").codec))


def test_zoo_file_is_up_to_date(monkeypatch):
    monkeypatch.setattr("edgepose.models.__main__.card", known)
    assert models.ZOO_FILE.read_text() == text(), "run: python -m edgepose.models"


def test_zoo_is_read_without_torch():
    code = "import sys, edgepose.models as m; assert m.zoo(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
