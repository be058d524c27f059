"""int8: the sweep finds the layers that matter, and engines keep them in float."""

import _tiny
import numpy as np
import pytest

from edgepose import cli, quantize
from edgepose.card import Card
from edgepose.quantize import Layer, _chosen

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")


def test_the_noisiest_layers_are_kept_until_the_rest_is_quiet():
    layers = [Layer("a", "3x3", 10, 2e-1), Layer("b", "1x1", 100, 1e-6), Layer("c", "1x1", 90, 1e-5)]
    assert [one.kept for one in _chosen(layers)] == [True, False, False]
    quiet = [Layer("a", "3x3", 10, 1e-6), Layer("b", "1x1", 100, 1e-6)]
    assert not any(one.kept for one in _chosen(quiet))
    heavy = [Layer("a", "3x3", 1000, 2e-1), Layer("b", "1x1", 10, 1e-1)]
    assert [one.kept for one in _chosen(heavy)] == [False, True]  # too much work to keep


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small network with one layer that int8 ruins: a channel a thousand times as strong as the others."""
    import edgepose

    network, card = _tiny.litepose()
    with torch.no_grad():
        network.first[0][1].weight[0] *= 1000
        network.first[0][1].bias[0] = 500
        network.first[1][0].weight[0] /= 1000
    folder = tmp_path_factory.mktemp("saved") / "model"
    edgepose.save(folder, card, network, ("onnx",))
    return folder


def test_the_sweep_measures_every_convolution_and_leaves_the_graph_alone(saved):
    model = onnx.load(saved / "model.onnx")
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{i}"
    before = model.SerializeToString()
    batches = [_tiny.batch(1, 64, 96), _tiny.batch(1, 128, 64)]
    layers = quantize.sweep(model, batches, 3)
    assert model.SerializeToString() == before
    convs = [n.name for n in model.graph.node if n.op_type in ("Conv", "ConvTranspose")]
    assert [one.node for one in layers] == convs
    assert all(one.noise > 0 and one.macs > 0 for one in layers)
    assert np.isfinite([one.noise for one in layers]).all()


@pytest.mark.parametrize("runtime", ["onnx", "openvino"])
def test_int8_folder(saved, tmp_path, monkeypatch, runtime, capsys):
    for module in quantize.NEEDS[runtime][1]:
        pytest.importorskip(module)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for n in range(3):
        _tiny.write(tmp_path / "photos" / f"{n}.png", _tiny.picture(((30 + n, 40), (60, 50), (80, 20)), (128, 96)))
    args = ["--runtime", runtime, "--int8", "--calibrate", "photos", "--pictures", "photos", "--out", "made"]
    assert cli.main(["export", str(saved), *args]) in (0, 1)  # an untrained network finds nobody to compare
    assert "certificate" in capsys.readouterr().out
    card = Card.read("made")
    assert card.export is not None
    assert card.export.weights == "int8"
    rows = (tmp_path / "made" / "sweep.csv").read_text().splitlines()
    assert rows[0] == "node,kind,multiply_adds,noise,kept_float"
    assert sum(row.endswith(",1") for row in rows[1:]) == len(card.export.kept_float)
    if runtime == "onnx":
        kinds = {w.data_type for w in onnx.load(tmp_path / "made" / "model.onnx").graph.initializer}
        assert onnx.TensorProto.INT8 in kinds
