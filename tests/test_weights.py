import json

import _tiny
import pytest

import edgepose
from edgepose import weights
from edgepose.card import Card


@pytest.fixture
def bundled(tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "BUNDLED", tmp_path / "bundled")
    _tiny.model(tmp_path / "bundled" / "tiny-one")
    return tmp_path / "bundled"


def test_bundled_models_are_found_by_name(bundled, tmp_path, monkeypatch):
    assert weights.bundled() == ["tiny-one"]
    assert weights.find("tiny-one") == bundled / "tiny-one"
    assert edgepose.load("tiny-one").card.params == 7


def test_a_folder_is_itself(bundled, tmp_path):
    folder = _tiny.model(tmp_path / "mine")
    assert weights.find(str(folder)) == folder
    assert weights.find(folder) == folder


def test_misspelt_names_suggest_the_nearest(bundled):
    with pytest.raises(ValueError, match="no model or model folder called 'tiny-on'. Did you mean 'tiny-one'"):
        edgepose.load("tiny-on")


def test_known_architecture_without_weights(bundled):
    with pytest.raises(ValueError, match=r"architecture 'litepose-l' is known, but no weights are bundled: train it"):
        edgepose.load("litepose-l")


def test_a_file_is_not_a_model(bundled, tmp_path):
    path = _tiny.model(tmp_path / "mine") / "model.onnx"
    with pytest.raises(ValueError, match="is a file; name the folder"):
        edgepose.load(path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"weights": {}}, "holds no weights"),
        ({"weights": {"onnx": "gone.onnx"}}, "is incomplete: gone.onnx is missing"),
        ({"weights": {"onxx": "model.onnx"}}, "Did you mean 'onnx'"),
        ({"weights": {"onnx": "../../model.onnx"}}, None),
        ({"format": 99}, "format 99 is newer"),
    ],
)
def test_folders_that_are_not_whole(tmp_path, change, says):
    folder = _tiny.model(tmp_path / "mine")
    card = json.loads((folder / "card.json").read_text())
    (folder / "card.json").write_text(json.dumps({**card, **change}))
    if says is None:  # a card cannot name files outside its folder
        assert edgepose.load(folder).card.weights == change["weights"]
    else:
        with pytest.raises(ValueError, match=says):
            edgepose.load(folder)


def test_an_engine_the_folder_has_no_weights_for(tmp_path):
    folder = _tiny.model(tmp_path / "mine")
    with pytest.raises(ValueError, match="has no weights for 'pytorch', only for onnx"):
        edgepose.load(folder, runtime="pytorch")
    with pytest.raises(ValueError, match="no runtime called 'tvm'"):
        edgepose.load(folder, runtime="tvm")


@pytest.mark.parametrize("name", weights.bundled())
def test_models_that_ship_are_whole_small_and_described(name):
    card = Card.read(weights.BUNDLED / name)
    assert card.data
    assert card.licence
    assert card.scores
    assert card.command
    assert card.params
    assert sum(p.stat().st_size for p in (weights.BUNDLED / name).iterdir()) < 8e6
    assert weights.DEFAULT in weights.bundled()
