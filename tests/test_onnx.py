import copy
import shutil
import subprocess
import sys
from collections import Counter

import _tiny
import numpy as np
import pytest

import edgepose
from edgepose.card import Card
from edgepose.runtimes import onnx as runtime
from edgepose.runtimes._graph import halve

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A network, and the folder it was saved to."""
    network, card = _tiny.litepose()
    folder = tmp_path_factory.mktemp("saved") / "model"
    edgepose.save(folder, card, network.train())
    return network, folder


def expected(network, images):
    with torch.inference_mode():
        return [maps.numpy() for maps in copy.deepcopy(network).eval()(torch.from_numpy(images))]


@pytest.mark.parametrize("shape", [(1, 128, 128), (2, 64, 160), (3, 256, 64), (1, 16, 48)])
def test_both_runtimes_give_the_networks_maps_at_any_size(saved, shape):
    network, folder = saved
    images = _tiny.batch(*shape)
    for name in ("onnx", "pytorch"):
        maps = edgepose.load(folder, runtime=name, threads=1).run(images)
        for a, b in zip(maps, expected(network, images), strict=True):
            assert a.dtype == np.float32
            assert a.shape == b.shape
            assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max(), name


def test_the_graph_is_folded_and_its_summed_deconvolutions_merged(saved):
    graph = onnx.load(saved[1] / "model.onnx").graph
    ops = Counter(node.op_type for node in graph.node)
    assert ops["BatchNormalization"] == 0
    assert ops["ConvTranspose"] == 3  # six in the network
    assert ops["Concat"] == 3
    onnx.checker.check_model(onnx.load(saved[1] / "model.onnx"))
    text = (saved[1] / "model.onnx").read_bytes()
    assert b".py" not in text  # no stack traces of the machine it was made on


def test_saving_leaves_the_network_as_it_was(saved):
    network, _ = saved
    fresh, card = _tiny.litepose()
    assert network.training
    assert all((v == network.state_dict()[k]).all() for k, v in fresh.state_dict().items())
    assert card.weights == {}


def test_half_weights_halve_the_file_and_are_used_as_float32(saved, tmp_path):
    network, folder = saved
    model = onnx.load(folder / "model.onnx")
    halve(model)
    onnx.save(model, tmp_path / "half.onnx")
    big = [w for w in model.graph.initializer if w.data_type == onnx.TensorProto.FLOAT and np.prod(w.dims) >= 16]
    assert not big
    images = _tiny.batch(1, 64, 64)
    maps = runtime.read(Card.read(folder), tmp_path / "half.onnx", threads=1)(images)
    off = max(np.abs(a - b).max() / np.abs(b).max() for a, b in zip(maps, expected(network, images), strict=True))
    assert 1e-6 < off < 1e-2


def test_a_file_that_disagrees_is_not_kept(saved, tmp_path, monkeypatch):
    network, folder = saved
    broken = onnx.load(folder / "model.onnx")
    weight = max(broken.graph.initializer, key=lambda w: np.prod(w.dims))
    weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.1, weight.name))
    monkeypatch.setattr(runtime, "_export", lambda *_: broken)
    (tmp_path / "model.onnx").write_bytes(b"earlier")
    with pytest.raises(ValueError, match="export failed: maps 0 are off by"):
        runtime.write(Card.read(folder), network, tmp_path / "model.onnx")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("model.onnx", b"earlier")]


@pytest.mark.parametrize("damage", ["empty", "junk", "cut", "missing"])
def test_damaged_files(saved, tmp_path, damage):
    whole = (saved[1] / "model.onnx").read_bytes()
    data = {"empty": b"", "junk": b"junk" * 1000, "cut": whole[: len(whole) // 2], "missing": None}[damage]
    if data is not None:
        (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(ValueError, match="cannot use") as error:
        runtime.read(Card.read(saved[1]), tmp_path / "model.onnx")
    assert str(tmp_path / "model.onnx") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("device", "says"), [("tpu", "no device 'tpu'"), ("cuda:x", "no device"), ("cuda", "no cuda")])
def test_devices_that_are_not_there(saved, device, says):
    import onnxruntime

    if device == "cuda" and "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has CUDA")
    with pytest.raises(ValueError, match=says):
        edgepose.load(saved[1], runtime="onnx", device=device)


def test_a_saved_folder_predicts_without_torch(saved, tmp_path):
    """With everything blocked that only training or exporting needs."""
    shutil.copytree(saved[1], tmp_path / "model")
    np.save(tmp_path / "batch.npy", _tiny.batch(1, 64, 96))
    code = f"""{_tiny.BLOCK}
import numpy as np, edgepose
model = edgepose.load("model", threads=1)
maps = model.run(np.load("batch.npy"))
np.savez("maps.npz", *maps)
print(len(model(np.zeros((48, 64, 3), np.uint8))) >= 0)
try:
    edgepose.load("model", runtime="pytorch")
except ValueError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    lines = result.stdout.splitlines()
    assert lines[0] == "True"
    assert lines[1].startswith('this needs torch: pip install "edgepose[train]"')
    stored = np.load(tmp_path / "maps.npz")
    for a, b in zip(stored.values(), expected(saved[0], _tiny.batch(1, 64, 96)), strict=True):
        assert np.abs(a - b).max() <= 1e-4 * np.abs(b).max()


def test_a_size_the_network_refuses_is_a_clear_error(saved):
    run = runtime.read(Card.read(saved[1]), saved[1] / "model.onnx", threads=1)
    with pytest.raises(ValueError, match=r"failed on a batch \(1, 3, 72, 64\)"):
        run(_tiny.batch(1, 72, 64))


@pytest.mark.slow
def test_save_with_half_weights(tmp_path):
    network, card = _tiny.litepose()
    written = edgepose.save(tmp_path, card, network, ("onnx",), half=True)
    assert written.weights == {"onnx": "model.onnx"}
    types = {w.data_type for w in onnx.load(tmp_path / "model.onnx").graph.initializer if np.prod(w.dims) >= 16}
    assert types == {onnx.TensorProto.FLOAT16}
