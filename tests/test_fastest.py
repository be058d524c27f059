"""The default engine: measured where there is a choice, remembered, measured again when something changes."""

import json
from dataclasses import replace

import _tiny
import pytest

import edgepose
from edgepose import cli, fastest, predictor
from edgepose.card import Card


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A model with weights for onnx and, by its card, for openvino, which is taken to be installed; an empty cache."""
    monkeypatch.setenv("EDGEPOSE_CACHE", str(tmp_path / "cache"))
    folder = _tiny.model(tmp_path / "tiny")
    weights = {"openvino": "model.xml", "onnx": "model.onnx", "pytorch": "model.safetensors"}
    replace(Card.read(folder), weights=weights).write(folder)
    (folder / "model.xml").write_text("made up")
    monkeypatch.setattr(fastest, "names", lambda package: ["onnx", "openvino", "pytorch"])
    monkeypatch.setattr(fastest, "installed", lambda runtime: True)
    real = fastest.entry
    monkeypatch.setattr(fastest, "entry", lambda package, name: real(package, "onnx" if name == "openvino" else name))
    return folder


def measured(monkeypatch, times):
    """Let `measure` say `times`, and give the list of what it was asked."""
    asked = []
    monkeypatch.setattr(fastest, "measure", lambda *args: (asked.append(args), times)[1])
    return asked


def test_the_fastest_is_taken_and_remembered(folder, monkeypatch, capsys):
    asked, card = measured(monkeypatch, {"onnx": 10.0, "openvino": 6.0}), Card.read(folder)
    assert fastest.usable(card) == ["onnx", "openvino"], "PyTorch counts only where it is alone"
    assert [fastest.choose(folder, card, 2) for _ in range(3)] == ["openvino"] * 3
    assert asked == [(folder, ["onnx", "openvino"], 2)], "measured once"
    assert cli.main(["info"]) == 0
    assert "fastest engine: litepose-xs, 2 threads: openvino (openvino 6.0 ms, onnx 10.0 ms)" in capsys.readouterr().out
    fastest.choose(folder, card, 1)
    assert len(asked) == 2, "another number of threads is another question"
    (folder / "model.xml").write_text("made up anew")
    assert fastest.choose(folder, card, 2) == "openvino"
    assert len(asked) == 3, "so are other weights"


@pytest.mark.parametrize(
    ("times", "engine"),
    [
        ({"onnx": 10.0, "openvino": 9.8}, "onnx"),
        ({"onnx": 10.0}, "onnx"),
        ({"openvino": 9.0}, "openvino"),
        ({}, "onnx"),
    ],
)
def test_noise_and_failures_leave_onnx(folder, monkeypatch, times, engine):
    measured(monkeypatch, times)
    assert fastest.choose(folder, Card.read(folder), 1) == engine


def test_one_engine_is_not_measured(folder, monkeypatch):
    asked, card = measured(monkeypatch, {}), Card.read(folder)
    monkeypatch.setattr(fastest, "installed", lambda runtime: runtime != "openvino")
    assert fastest.choose(folder, card, 1) == "onnx"
    monkeypatch.setattr(fastest, "installed", lambda runtime: runtime == "pytorch")
    assert fastest.choose(folder, card, 1) == "pytorch"
    monkeypatch.setattr(fastest, "installed", lambda runtime: False)
    assert fastest.choose(folder, card, 1) == "onnx"
    assert asked == []


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', '{"a": {"engine": "onnx"}}', "{"])
def test_a_broken_memory_is_made_anew(folder, monkeypatch, content):
    measured(monkeypatch, {"onnx": 10.0, "openvino": 6.0})
    fastest.cache().parent.mkdir()
    fastest.cache().write_text(content)
    assert fastest.choose(folder, Card.read(folder), 1) == "openvino"
    assert [row["engine"] for row in json.loads(fastest.cache().read_text()).values()] == ["openvino"]


def test_a_memory_that_cannot_be_written_is_done_without(folder, monkeypatch):
    measured(monkeypatch, {"onnx": 10.0, "openvino": 6.0})
    fastest.cache().parent.write_text("in the way")
    assert fastest.choose(folder, Card.read(folder), 1) == "openvino"


def test_measuring_is_real_and_leaves_out_what_fails(tmp_path, capfd):
    times = fastest.measure(_tiny.model(tmp_path / "tiny"), ["onnx", "pytorch"], 1)
    assert times.keys() == {"onnx"}, "this model has no weights for pytorch"
    assert 0 < times["onnx"] < 1000
    assert capfd.readouterr() == ("", "")


def test_load_asks_unless_it_is_told(tmp_path, monkeypatch):
    folder, asked = _tiny.model(tmp_path / "tiny"), []
    monkeypatch.setattr(predictor, "choose", lambda *args: (asked.append(args[2]), "onnx")[1])
    assert edgepose.load(folder, threads=3).runtime == "onnx"
    assert edgepose.load(folder, "onnx", threads=3).runtime == "onnx"
    assert asked == [3]
    other = edgepose.load(folder, threads=2).again()
    assert (other.runtime, other.threads, asked) == ("onnx", 1, [3, 2]), (
        "the same engine, whatever one thread would like"
    )
