"""Export of a binary network: the file holds its graph, or there is no file."""

from dataclasses import asdict

import pytest

torch = pytest.importorskip("torch")
onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")

from edgepose.card import Card  # noqa: E402
from edgepose.codecs.topdown import TopDown  # noqa: E402
from edgepose.models import bihrnet  # noqa: E402
from edgepose.recalibrate import statistics  # noqa: E402
from edgepose.runtimes import _graph  # noqa: E402
from edgepose.runtimes import onnx as engine  # noqa: E402
from edgepose.skeleton import COCO17  # noqa: E402


@pytest.fixture(scope="module")
def made():
    torch.manual_seed(0)
    blocks = ((1, 0), (0, 0, 0), (0, 0, 0, 0))
    net = bihrnet.build(bihrnet.Arch(width=8, planes=8, modules=(1, 1, 1), blocks=blocks))
    statistics(net, [torch.randn(4, 3, 96, 64)])
    return Card("bihrnet-w32", asdict(net.arch), TopDown(COCO17, (64, 96))), net


def test_a_graph_with_other_signs_is_refused(made, tmp_path, monkeypatch):
    real = _graph.fold_norms

    def spoil(model):
        signs = [node for node in model.graph.node if node.op_type == "GreaterOrEqual"]
        assert len(signs) > 20
        signs[-1].op_type = "Less"
        return real(model)

    monkeypatch.setattr(_graph, "fold_norms", spoil)
    with pytest.raises(ValueError, match="export failed: maps 0 are off"):
        engine.write(*made, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


def test_half_precision_is_refused(made, tmp_path):
    with pytest.raises(ValueError, match="float16 would move its thresholds"):
        engine.write(*made, tmp_path / "model.onnx", half=True)
