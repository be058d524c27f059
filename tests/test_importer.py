"""Official LitePose checkpoints become model folders; anything else is refused in one line."""

import os
import pickle
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgepose import importer  # noqa: E402
from edgepose.models import hourglass, simplebaseline  # noqa: E402
from edgepose.models.litepose import ARCHS, Arch, LitePose  # noqa: E402

TINY = Arch(blocks=(1, 1, 1, 1))


@pytest.fixture(autouse=True)
def without_export(monkeypatch):
    """Save only the card: what the engines write is tested with them. The saved network is kept in the list."""
    saved = []

    def save(folder, card, network):
        saved.append(network)
        card.write(folder)
        return card

    monkeypatch.setattr(importer, "save", save)
    return saved


def network(arch=ARCHS["xs"][0]):
    torch.manual_seed(0)
    net = LitePose(arch)
    for p in net.parameters():
        p.data.normal_(0, 0.1)
    return net.eval()


def same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return list(a) == list(b) and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(("name", "joints"), [*((name, 17) for name in ARCHS), ("xs", 14)])
def test_released_architectures(name, joints, tmp_path, without_export):
    net = network(replace(ARCHS[name][0], joints=joints))
    torch.save(net.state_dict(), tmp_path / "a.pth")
    card = importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out")
    assert card.model == f"litepose-{name}"
    assert (len(card.codec.skeleton), card.codec.input_size) == (joints, ARCHS[name][1])
    assert card.params == sum(p.numel() for p in net.parameters())
    assert same(without_export[0], net)
    assert "SHA-256" in card.notes
    assert "unknown" in card.licence


WRAPPERS = {
    "plain": lambda s: s,
    "data parallel": lambda s: {f"module.{k}": v for k, v in s.items()},
    "half precision": lambda s: {f"1.{k}": v for k, v in s.items()},
    "both": lambda s: {f"module.1.{k}": v for k, v in s.items()},
    "container": lambda s: {"epoch": 3, "state_dict": {f"module.{k}": v for k, v in s.items()}, "perf": 0.4},
    "training": lambda s: {
        "epoch": 3,
        "model": "lite",
        "state_dict": {f"module.{k}": torch.zeros_like(v) for k, v in s.items()},
        "best_state_dict": s,
        "perf": np.float64(0.4),
        "optimizer": {"state": {0: {"step": 3}}, "param_groups": [{"lr": 1e-3}]},
    },
    "supernet": lambda s: s | {"stage.0.0.Linear5x5.weight": torch.eye(25), "stage.0.0.Linear3x3.bias": torch.ones(9)},
}


@pytest.mark.parametrize(("kind", "new"), [*((kind, True) for kind in WRAPPERS), ("plain", False), ("training", False)])
def test_containers(kind, new, tmp_path, without_export):
    net = network(TINY)
    file = tmp_path / "checkpoint.pth.tar"
    torch.save(WRAPPERS[kind](net.state_dict()), file, _use_new_zipfile_serialization=new)
    card = importer.import_checkpoint(file, tmp_path / "out", (64, 64))
    assert same(without_export[0], net)
    assert ("supernet" in card.notes) == (kind == "supernet")
    assert ("best_state_dict" in card.notes) == (kind == "training")


def test_half_precision_weights_are_widened(tmp_path, without_export):
    net = network(TINY)
    torch.save(net.half().state_dict(), tmp_path / "a.pth")
    importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (64, 64))
    assert same(without_export[0], net.float())


def test_safetensors(tmp_path, without_export):
    from safetensors.torch import save_file

    net = network(TINY)
    save_file(net.state_dict(), tmp_path / "a.safetensors")
    importer.import_checkpoint(tmp_path / "a.safetensors", tmp_path / "out", (64, 64))
    assert same(without_export[0], net)


def test_sizes_of_its_own_need_an_input(tmp_path):
    torch.save(network(TINY).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="--input HxW"):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out")
    card = importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (320, 320))
    assert (card.model, card.codec.input_size, card.arch["blocks"]) == ("litepose", 320, [1, 1, 1, 1])


def test_input_overrides_the_released_size(tmp_path):
    torch.save(network().state_dict(), tmp_path / "a.pth")
    assert importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (384, 384)).codec.input_size == 384


@pytest.mark.parametrize("size", [(256, 384), (100, 100), (0, 0), (-64, -64)])
def test_impossible_inputs(size, tmp_path):
    torch.save(network(TINY).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="multiple of 64"):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", size)


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-code-ran",)


def test_code_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": network(TINY).state_dict(), "extra": Hostile()}, "zip.pth")
    torch.save({"a": Hostile()}, "legacy.pth", _use_new_zipfile_serialization=False)
    with open("plain.pth", "wb") as file:
        pickle.dump(Hostile(), file)
    torch.save(network(TINY), "module.pth")
    for name in ("zip.pth", "legacy.pth", "plain.pth", "module.pth"):
        with pytest.raises(ValueError, match="refused|nothing in it was run") as error:
            importer.import_checkpoint(name, "out")
        assert "\n" not in str(error.value)
        assert name in str(error.value)
    assert not (tmp_path / "hostile-code-ran").exists()
    assert not (tmp_path / "out").exists()


def damaged():
    whole = {}
    for kind, new in (("zip", True), ("legacy", False)):
        import io

        data = io.BytesIO()
        torch.save(network(TINY).state_dict(), data, _use_new_zipfile_serialization=new)
        whole[kind] = data.getvalue()
    return {
        "empty.pth": b"",
        "text.pth": b"hello, I am no checkpoint\n",
        "picture.pth": b"\xff\xd8\xff\xe0" + bytes(100),
        "cut.pth": whole["zip"][: len(whole["zip"]) // 2],
        "cut-legacy.pth": whole["legacy"][: len(whole["legacy"]) // 2],
        "head.pth": whole["zip"][:10],
        "text.safetensors": b"hello",
        "empty.safetensors": b"",
        "lie.safetensors": (1 << 62).to_bytes(8, "little") + b"{}",
    }


@pytest.mark.parametrize(("name", "data"), damaged().items(), ids=damaged())
def test_damaged_files(name, data, tmp_path):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=r"is not a \w+ checkpoint, or is damaged") as error:
        importer.import_checkpoint(tmp_path / name, tmp_path / "out")
    assert "\n" not in str(error.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ValueError, match="cannot read"):
        importer.import_checkpoint(tmp_path / "nowhere.pth", tmp_path / "out")
    with pytest.raises(ValueError, match="cannot read"):
        importer.import_checkpoint(tmp_path, tmp_path / "out")


def changed(change):
    state = network(TINY).state_dict()
    change(state)
    return state


WRONG = {
    "missing": (lambda s: s.pop("first.1.1.bias"), "keys 1 missing, first 'first.1.1.bias'"),
    "unexpected": (lambda s: s.update(extra=torch.ones(1)), "keys 1 unexpected, first 'extra'"),
    "shape": (
        lambda s: s.update({"first.3.bias": torch.ones(3)}),
        r"'first.3.bias' has shape \(3,\), expected \(16,\)",
    ),
    "not finite": (lambda s: s["first.3.bias"].fill_(float("nan")), "'first.3.bias' has values that are not finite"),
    "scalar": (lambda s: s.update({"first.2.weight": torch.tensor(1.0)}), "litepose|shape"),
    "zero": (lambda s: s.update({"stage.0.0.inv.0.weight": torch.ones(0, 0, 1, 1)}), "litepose|shape"),
    "endless": (lambda s: s.update({"stage.0.99999999.x": torch.ones(1)}), "keys"),
    "no number": (lambda s: s.update({"stage.0.x": torch.ones(1)}), "keys"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_wrong_checkpoints(kind, tmp_path):
    change, message = WRONG[kind]
    torch.save(changed(change), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=message) as error:
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (64, 64))
    assert "a.pth" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("value", [[], {}, {"a": 3}, {3: torch.ones(1)}, torch.ones(3), {"state_dict": {}}])
def test_not_a_network(value, tmp_path):
    torch.save(value, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth"):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out")


def test_without_its_heads(tmp_path):
    state = {k: v for k, v in network().state_dict().items() if not k.startswith("final")}
    torch.save(state, tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"28 missing, first 'final_refined\.0\.conv\.0\.weight'"):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out")


def test_unwritable_output(tmp_path, monkeypatch):
    def full(folder, card, network):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importer, "save", full)
    torch.save(network(TINY).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match="cannot write .*out: No space left"):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (64, 64))


def test_another_network(tmp_path):
    torch.save({"conv0.weight": torch.ones(64, 3, 7, 7)}, tmp_path / "a.pth")
    with pytest.raises(
        ValueError, match=r"a\.pth is no checkpoint of a network known here \(.*litepose.*'conv0\.weight'"
    ):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out")


def test_other_joint_counts(tmp_path):
    torch.save(network(replace(TINY, joints=15)).state_dict(), tmp_path / "a.pth")
    with pytest.raises(ValueError, match=r"a\.pth has 15 joints; known are 17 \(COCO\), 16 \(MPII\) and 14"):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (256, 256))


def test_counters_that_old_files_lack(tmp_path, without_export):
    net = network(TINY)
    state = {k: v for k, v in net.state_dict().items() if not k.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "old.pth")
    importer.import_checkpoint(tmp_path / "old.pth", tmp_path / "out", (64, 64))
    assert same(without_export[0], net)


def test_what_mmpose_keeps_beside_the_weights(tmp_path, without_export):
    """Its files hold facts about the data set as numpy arrays; these run no code, and are not needed."""
    net = network(TINY)
    facts = {"dataset_meta": {"sigmas": np.array([0.02, 0.1]), "flip": np.arange(3), "name": "coco"}, "epoch": 210}
    torch.save({"meta": facts, "state_dict": net.state_dict()}, tmp_path / "mmpose.pth")
    importer.import_checkpoint(tmp_path / "mmpose.pth", tmp_path / "out", (64, 64))
    assert same(without_export[0], net)


TOP_DOWN = simplebaseline.Arch(blocks=(1, 1, 1, 1), bottleneck=False, stem=8, deconv_channels=(8, 8, 8))


def test_sizes_of_crops(tmp_path):
    torch.save(simplebaseline.build(simplebaseline.Arch()).state_dict(), tmp_path / "r50.pth")
    torch.save(simplebaseline.build(TOP_DOWN).state_dict(), tmp_path / "own.pth")
    usual = importer.import_checkpoint(tmp_path / "r50.pth", tmp_path / "out")
    assert (usual.model, usual.codec.input_size, usual.codec.sigma) == ("simplebaseline-r50", (192, 256), 2)
    large = importer.import_checkpoint(tmp_path / "r50.pth", tmp_path / "out", (384, 288))
    assert (large.model, large.codec.input_size, large.codec.sigma) == ("simplebaseline-r50-384x288", (288, 384), 3)
    own = importer.import_checkpoint(tmp_path / "own.pth", tmp_path / "out", (128, 96))
    assert (own.model, own.codec.input_size) == ("simplebaseline", (96, 128))
    with pytest.raises(ValueError, match="input 120x96: crops are multiples of 32"):
        importer.import_checkpoint(tmp_path / "own.pth", tmp_path / "out", (120, 96))
    torch.save(hourglass.build(hourglass.Arch(16, 1, (16,) * 5)).state_dict(), tmp_path / "deep.pth")
    with pytest.raises(ValueError, match="input 96x64 does not fit this network: give multiples of 64"):
        importer.import_checkpoint(tmp_path / "deep.pth", tmp_path / "out", (96, 64))
    with pytest.raises(ValueError, match="--input HxW"):
        importer.import_checkpoint(tmp_path / "own.pth", tmp_path / "out")


def test_mpii_has_16_joints_and_square_crops(tmp_path):
    arch = simplebaseline.Arch(joints=16)
    torch.save(simplebaseline.build(arch).state_dict(), tmp_path / "a.pth")
    card = importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out")
    assert (card.model, card.codec.input_size) == ("simplebaseline-r50-256x256", (256, 256))
    assert card.codec.skeleton.name == "mpii16"


def test_the_prefixes_of_mmpose(tmp_path, without_export):
    net = simplebaseline.build(TOP_DOWN)
    head = ("deconv_layers", "final_layer")
    state = {("head." if k.startswith(head) else "backbone.") + k: v for k, v in net.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "a.pth")
    importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (64, 64))
    assert same(without_export[0], net)
    del state["backbone.layer3.0.conv2.weight"]
    torch.save(state | {"backbone.more": torch.ones(1)}, tmp_path / "a.pth")
    match = r"not a complete simplebaseline .* 1 missing, first 'layer3\.0\.conv2\.weight'; 1 unexpected, first 'more'"
    with pytest.raises(ValueError, match=match):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (64, 64))


def test_pictures_for_the_hourglasses_of_mpii(tmp_path):
    """pytorch-pose takes off MPII's mean colour and divides by nothing; MMPose does as ImageNet's networks."""
    for arch, mean, std in (
        (hourglass.Arch(16, 1, (16,) * 5), (0.4404, 0.4440, 0.4327), (1, 1, 1)),
        (hourglass.Arch(17, 1, (8,) * 3, (1,) * 3, True), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
    ):
        torch.save(hourglass.build(arch).state_dict(), tmp_path / "a.pth")
        codec = importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", (64, 64)).codec
        ((batch,), _) = codec.encode(np.full((64, 64, 3), 51, np.uint8))
        np.testing.assert_allclose(batch[0, :, 32, 32], (0.2 - np.array(mean)) / std, atol=1e-6)


def test_the_way_of_reading_peaks_is_said(tmp_path):
    arch = simplebaseline.ARCHS["r18"][0]
    torch.save(simplebaseline.build(arch).state_dict(), tmp_path / "a.pth")
    assert importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out").codec.decode_with == "shift"
    assert importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", None, "udp").codec.decode_with == "udp"
    with pytest.raises(ValueError, match="decode_with = 'argmax'"):
        importer.import_checkpoint(tmp_path / "a.pth", tmp_path / "out", None, "argmax")
    torch.save(network().state_dict(), tmp_path / "b.pth")
    with pytest.raises(ValueError, match="one person at a time; litepose-xs does not"):
        importer.import_checkpoint(tmp_path / "b.pth", tmp_path / "out", None, "udp")
