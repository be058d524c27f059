import json
from dataclasses import replace

import pytest

from edgepose.card import Card, typed
from edgepose.codecs.bottomup import BottomUp
from edgepose.skeleton import CROWDPOSE14, MPII16


def card() -> Card:
    codec = BottomUp(CROWDPOSE14, 448, scales=(0.5, 1.0), flip=False)
    return Card(
        "litepose-s",
        {"channels": (16, 32)},
        codec,
        {"onnx": "model.onnx"},
        2731240,
        3.6,
        4.9,
        "COCO",
        "MIT",
        {"AP": 0.5},
    )


def test_round_trip_through_the_file(tmp_path):
    before = card()
    path = before.write(tmp_path / "new" / "model")
    after = Card.read(tmp_path / "new" / "model")
    assert after == before
    assert after.codec.scales == (0.5, 1.0)
    assert after.codec.skeleton == CROWDPOSE14
    assert after.family == "litepose"
    assert [p.name for p in path.parent.iterdir()] == ["card.json"]


def test_a_card_is_replaced_whole_or_not_at_all(tmp_path):
    card().write(tmp_path)
    with pytest.raises(ValueError, match="JSON compliant"):
        replace(card(), gmacs=float("nan")).write(tmp_path)
    assert Card.read(tmp_path) == card()


def test_skeleton_may_be_named():
    values = card().to_dict()
    values["codec"]["skeleton"] = "mpii16"
    assert Card.from_dict(values).codec.skeleton is MPII16


def changed(**fields):
    return {**card().to_dict(), **fields}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        (changed(format=2), r"format 2 is newer than this edgepose understands \(up to 1\): pip install -U edgepose"),
        (changed(codec={"kind": "botomup"}), "Did you mean 'bottomup'"),
        (changed(codec={}), "'codec' must be an object with a `kind`"),
        (changed(codec={"kind": "bottomup", "scales": [1, "a"]}), r"'codec.scales\[1\]' must be float, got 'a'"),
        (changed(codec={"kind": "bottomup", "flip": 1}), "'codec.flip' must be bool, got 1"),
        (changed(codec={"kind": "bottomup", "skeleton": 3}), "skeleton needs"),
        (changed(codec={"kind": "bottomup", "fliip": True}), "Did you mean 'flip'"),
        (changed(model=3), "'model' must be str, got 3"),
        (changed(params="many"), "'params' must be int"),
        (changed(params=True), "'params' must be int"),
        (changed(gmacs=[]), "'gmacs' must be float"),
        (changed(weights={"onnx": 3}), "'weights.onnx' must be str"),
        (changed(format="1"), "'format' must be int"),
        (changed(modl="x"), "Did you mean 'model'"),
        ({"model": "x", "arch": {}}, "'codec' is missing"),
        ([], "JSON object, not list"),
    ],
)
def test_wrong_cards_say_what_is_wrong(tmp_path, values, says):
    (tmp_path / "card.json").write_text(json.dumps(values))
    with pytest.raises(ValueError, match=says) as error:
        Card.read(tmp_path)
    assert str(tmp_path / "card.json") in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe\x00", b"[" * 100_000, b"null"])
def test_broken_files_are_one_clear_error(tmp_path, content):
    (tmp_path / "card.json").write_bytes(content)
    with pytest.raises(ValueError, match="card.json is not a usable model card|card.json is not a model card"):
        Card.read(tmp_path)


def test_no_card(tmp_path):
    with pytest.raises(ValueError, match="is not a model folder: it has no card.json"):
        Card.read(tmp_path)


def test_integers_do_for_floats_and_lists_for_tuples():
    codec = typed(BottomUp, {"sigma": 3, "strides": [8, 4]}, "codec.")
    assert codec.sigma == 3.0
    assert isinstance(codec.sigma, float)
    assert codec.strides == (8, 4)
