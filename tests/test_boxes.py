"""Boxes of results files and of detection networks, and what is made of them."""

import json
from dataclasses import replace

import _tiny
import numpy as np
import pytest

import edgepose
from edgepose import boxes, cli, detect
from edgepose.card import Card
from edgepose.codecs.topdown import TopDown
from edgepose.poses import Poses
from edgepose.predictor import Predictor
from edgepose.skeleton import COCO17

ROWS = [
    {"image_id": 139, "category_id": 1, "bbox": [10, 20, 30, 40], "score": 0.9},
    {"image_id": 139, "category_id": 3, "bbox": [0, 0, 9, 9], "score": 0.99},
    {"image_id": 139, "category_id": 1, "bbox": [5, 5, 0, 9], "score": 0.8},
    {"image_id": "b", "bbox": [1.5, 2, 3, 4], "score": 0.25},
]


def test_boxes_of_a_results_file(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(ROWS))
    found = boxes.from_results(tmp_path / "a.json", [139, "b", 7])
    assert {image: (b.tolist(), s.tolist()) for image, (b, s) in found.items()} == {
        139: ([[10, 20, 40, 60]], [np.float32(0.9)]),
        "b": ([[1.5, 2, 4.5, 6]], [0.25]),
        7: ([], []),
    }
    assert found[7][0].shape == (0, 4)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("[1", "no results file"),
        ("{}", "dict, not a list"),
        ("[3]", "row 0"),
        (json.dumps([ROWS[0], {"image_id": 1, "bbox": [1, 2, 3]}]), "row 1"),
        (json.dumps([{**ROWS[0], "bbox": [0, 0, -1, 5]}]), "row 0.*no box"),
        (json.dumps([{**ROWS[0], "score": None}]), "row 0"),
        (json.dumps(ROWS[3:]), "none of these pictures.*'b'.*139"),
    ],
)
def test_results_files_that_are_none(content, says, tmp_path):
    (tmp_path / "a.json").write_text(content)
    with pytest.raises(ValueError, match=says):
        boxes.from_results(tmp_path / "a.json", [139])
    with pytest.raises(ValueError, match="cannot read"):
        boxes.from_results(tmp_path / "nowhere.json", [139])


# ── networks: what they find is painted into the picture ─────────────────────────────────────────────────────────────


def save(path, nodes, weights, outputs, size=(64, 96)):
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    values = [numpy_helper.from_array(np.asarray(array), name) for name, array in weights.items()]
    made = [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs]
    picture = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, *size])
    body = helper.make_graph([helper.make_node(*n[:3], **n[3]) for n in nodes], "detector", [picture], made, values)
    onnx.save(helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9), path)
    return path


def yolox(path):
    """Where a cell of stride 32 is red there is a person two cells wide and one and a half high, blue is class 1."""
    nodes, rows = [], []
    for stride in (8, 16, 32):
        nodes.append(
            ("AveragePool", ["images"], [f"p{stride}"], {"kernel_shape": [stride] * 2, "strides": [stride] * 2})
        )
        nodes.append(("Reshape", [f"p{stride}", "flat"], [f"f{stride}"], {}))
        nodes.append(("Transpose", [f"f{stride}"], [f"t{stride}"], {"perm": [0, 2, 1]}))
        nodes.append(("MatMul", [f"t{stride}", "mix" if stride == 32 else "none"], [f"m{stride}"], {}))
        nodes.append(("Add", [f"m{stride}", "bias"], [f"r{stride}"], {}))
        rows.append(f"r{stride}")
    nodes.append(("Concat", rows, ["output"], {"axis": 1}))
    mix = np.zeros((3, 7), np.float32)  # blue, green, red -> dx, dy, log w, log h, object, person, other
    mix[2, 4] = mix[2, 5] = mix[0, 6] = mix[0, 4] = 1 / 255
    bias = np.float32([0.5, 0.25, np.log(2), np.log(1.5), 0, 0, 0])
    return save(path, nodes, {"flat": np.int64([1, 3, -1]), "mix": mix, "none": mix * 0, "bias": bias}, [("output", 1)])


def suppressing(path, classes=(0, 2, 0)):
    """Three boxes whose scores are the mean of what arrives as blue, green and red."""
    nodes = [
        ("ReduceMean", ["images", "axes"], ["means"], {"keepdims": 1}),
        ("Reshape", ["means", "column"], ["scores"], {}),
        ("Concat", ["corners", "scores"], ["dets"], {"axis": 2}),
    ]
    corners = np.float32([[[0, 0, 16, 32], [8, 8, 24, 40], [48, 16, 80, 48]]])
    weights = {"axes": np.int64([2, 3]), "column": np.int64([1, 3, 1]), "corners": corners}
    if classes is None:
        return save(path, nodes, weights, [("dets", 1)])
    nodes.append(("Identity", ["classes"], ["labels"], {}))
    return save(path, nodes, weights | {"classes": np.int64([classes])}, [("dets", 1), ("labels", 7)])


def test_yolox(tmp_path):
    detector = boxes.from_onnx(yolox(tmp_path / "a.onnx"), threads=1)
    image = np.zeros((128, 192, 3), np.uint8)  # twice the size of the input
    image[64:128, 128:192, 0] = 204  # the third cell of the second row is red
    image[:64, :64, 2] = 255  # and one is of another class
    found, scores = detector(image)
    centre = 2 * 32 * np.array([2.5, 1.25])  # of the box, in the picture
    low, high = centre - (64, 48), np.minimum(centre + (64, 48), (192, 128))
    np.testing.assert_allclose(found, [[*low, *high]], atol=1e-3)
    np.testing.assert_allclose(scores, [0.64], atol=1e-5)
    found, scores = detector(np.full((10, 90, 3), (255, 0, 0), np.uint8))
    assert found[:, 3].max() <= 10, "no box reaches into the grey below a flat picture"
    none, scores = detector(np.zeros((64, 96, 3), np.uint8))
    assert none.shape == (0, 4)
    assert scores.shape == (0,)


def test_rtmdet_and_yolox_that_sort_out_their_boxes(tmp_path):
    colour = np.array([[(123.675 + 57, 116.28, 103.53 + 57)]]).round().astype(np.uint8)  # RGB: +1, 0, +1 deviations
    image = np.tile(colour, (64, 96, 1))
    found, scores = boxes.from_onnx(suppressing(tmp_path / "rtmdet.onnx"))(image)
    assert found.tolist() == [[0, 0, 16, 32], [48, 16, 80, 48]], "the second box is of another class"
    np.testing.assert_allclose(scores, [1, 1], atol=0.02)
    found, _ = boxes.from_onnx(suppressing(tmp_path / "one.onnx", None))(np.repeat(np.repeat(image, 2, 0), 2, 1))
    assert found.tolist() == [[0, 0, 32, 64], [96, 32, 160, 96]], "the score of the second is 0"
    _, scores = boxes.from_onnx(suppressing(tmp_path / "YOLOX_tiny.onnx", None))(image)
    np.testing.assert_allclose(scores, colour[0, 0, ::-1], rtol=1e-5)
    _, scores = boxes.from_onnx(tmp_path / "rtmdet.onnx", normalised=False, least=150)(image)
    np.testing.assert_allclose(scores, colour[0, 0, ::-1][[0, 2]], rtol=1e-5)


def test_files_that_are_no_detectors(tmp_path):
    (tmp_path / "text.onnx").write_text("hello")
    with pytest.raises(ValueError, match="text.onnx"):
        boxes.from_onnx(tmp_path / "text.onnx")
    with pytest.raises(ValueError, match=r"no detector.*\(1, 126, 5 \+ classes\)"):
        boxes.from_onnx(_pose(tmp_path / "pose.onnx"))


def _pose(path):
    return save(
        path, [("AveragePool", ["images"], ["maps"], {"kernel_shape": [4, 4], "strides": [4, 4]})], {}, [("maps", 1)]
    )


# ── people in boxes ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_one_look_scores_and_sorts_out_as_coco_top_down_does():
    rng = np.random.default_rng(0)
    person = rng.uniform(0, 100, (17, 2))
    xy = np.stack([person, person + 200, person + 0.3, person + 6]).astype(np.float32)
    poses = Poses(xy, np.full((4, 17), 0.5, np.float32), COCO17, np.float32([0.8, 0.9, 0.7, 0.6]))
    asked = []
    given, trust = np.zeros((4, 4), np.float32), np.float32([0.5, 0.9, 1.0, 1.0])
    look = lambda images, given: (asked.extend(given), [poses])[1]  # noqa: E731
    (kept,) = detect.one_look(look, [np.zeros((9, 9, 3), np.uint8)], [(given, trust)])
    assert len(asked) == 1 and asked[0] is given
    np.testing.assert_allclose(kept.person_scores, [0.81, 0.7, 0.6], atol=1e-6)
    np.testing.assert_array_equal(kept.xy, xy[[1, 2, 3]])


def top_down(skeleton):
    """A predictor that knows colours, one person a crop, and the batches that its network saw."""
    seen = []

    def run(batch):
        seen.append(len(batch))
        n, _, h, w = batch.shape
        return [batch.reshape(n, 3, h // 4, 4, w // 4, 4).mean((3, 5)).clip(0, 1)]

    codec = TopDown(skeleton, (96, 128), flip=False, mean=(0, 0, 0), std=(1, 1, 1))
    return Predictor(Card("litepose-xs", {}, codec), codec, run), seen


def test_predictor_with_given_boxes_and_scores():
    predictor, seen = top_down(_tiny.SKELETON)
    image = _tiny.picture(((100, 40), (120, 100), (90, 180)))
    box = np.float32([[60, 10, 150, 210], [61, 10, 151, 210]])
    plain = predictor(image, box)
    assert len(plain) == 2, "boxes alone give a pose each"
    scored = predictor(image, box, np.float32([0.5, 1.0]))
    assert len(scored) == 1
    assert scored.person_scores[0] == pytest.approx(plain.person_scores[1])
    predictor.detect, predictor.looks = lambda image: (box, np.float32([0.5, 1.0])), 1
    again = predictor(image)
    np.testing.assert_array_equal(again.xy, scored.xy)
    assert seen == [2, 2, 2], "one look each"
    nobody = predictor(image, box[:0], np.zeros(0, np.float32))
    assert len(nobody) == 0


# ── the command line ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def crops(tmp_path):
    """The folder of a model that knows colours and looks at one person at a time."""
    onnx = pytest.importorskip("onnx")
    (tmp_path / "model").mkdir()
    onnx.save(_tiny.graph(), tmp_path / "model" / "model.onnx")
    codec = TopDown(_tiny.SKELETON, (128, 128), stride=2, flip=False)
    Card("litepose-xs", {}, codec, {"onnx": "model.onnx"}).write(tmp_path / "model")
    _tiny.write(tmp_path / "139.png", _tiny.picture(((100, 40), (120, 100), (90, 180))))
    return tmp_path


def test_detector_files_on_the_command_line(crops, capsys):
    (crops / "boxes.json").write_text(json.dumps([{**ROWS[0], "bbox": [50, 10, 110, 200], "score": 0.5}]))
    words = ["predict", str(crops / "139.png"), "--model", str(crops / "model"), "--results", str(crops / "r.json")]
    assert cli.main([*words, "--detector", str(crops / "boxes.json")]) == 0
    (row,) = json.loads((crops / "r.json").read_text())
    found = np.array(row["keypoints"]).reshape(-1, 3)
    assert np.abs(found[:, :2] - [(100, 40), (120, 100), (90, 180)]).max() < 2
    assert row["score"] == pytest.approx(0.5 * found[:, 2].mean(), abs=1e-4)
    suppressing(crops / "rtmdet.onnx", None)
    assert cli.main([*words, "--detector", str(crops / "rtmdet.onnx")]) == 0
    assert cli.main([*words, "--detector", str(crops / "nowhere.onnx")]) == 2
    assert cli.main([*words, "--detector", str(crops / "nowhere.json")]) == 2
    (crops / "boxes.json").write_text(json.dumps([{**ROWS[0], "image_id": 7}]))
    assert cli.main([*words, "--detector", str(crops / "boxes.json")]) == 2
    assert "none of these pictures" in capsys.readouterr().err
    words[3] = str(_tiny.model(crops / "whole"))
    for file in ("boxes.json", "rtmdet.onnx"):
        assert cli.main([*words, "--detector", str(crops / file)]) == 2
        assert "needs no" in capsys.readouterr().err


# ── checkpoints of known architectures ───────────────────────────────────────────────────────────────────────────────


def test_weights_of_a_known_architecture(tmp_path, capsys):
    torch = pytest.importorskip("torch")
    from edgepose.models import simplebaseline

    torch.manual_seed(0)
    arch = simplebaseline.ARCHS["r18"][0]
    net = simplebaseline.build(arch).eval()
    net.final_layer.weight.data.normal_(0, 0.05)
    file, image = (
        tmp_path / "r18.pth",
        _tiny.write(tmp_path / "a.png", _tiny.picture(((100, 40), (120, 100), (90, 180)))),
    )
    torch.save({"state_dict": {f"module.{k}": v for k, v in net.state_dict().items()}}, file)
    predictor = edgepose.load(
        "simplebaseline-r18", weights=file, detector=lambda image: (np.zeros((0, 4)), np.zeros(0))
    )
    batch = _tiny.batch(2, *predictor.codec.input_size[::-1])
    with torch.inference_mode():
        expected = net(torch.from_numpy(batch))[0].numpy()
    np.testing.assert_allclose(predictor.run(batch)[0], expected, atol=1e-4 * np.abs(expected).max())
    words = ["predict", str(image), "--weights", str(file), "--out", str(tmp_path / "out"), "--model"]
    assert cli.main([*words, "simplebaseline-r18"]) == 0
    for name, says in (
        ("simplebaseline-r50", "holds simplebaseline-r18, not simplebaseline-r50"),
        ("hrnet-w32", "not hrnet-w32"),
        ("simplebaseline-r5", "simplebaseline-r50"),
    ):
        capsys.readouterr()
        assert cli.main([*words, name]) == 2
        assert says in capsys.readouterr().err
    torch.save({"w": torch.ones(3)}, file)
    assert cli.main([*words, "simplebaseline-r18"]) == 2
    assert cli.main([*words, "simplebaseline-r18", "--runtime", "onnx"]) == 2
    assert "edgepose import" in capsys.readouterr().err


def test_the_named_input_size_is_taken(tmp_path):
    torch = pytest.importorskip("torch")
    from edgepose.models import _identify, hrnet

    arch = replace(hrnet.ARCHS["w32"][0], modules=(1, 1, 1))
    torch.save(hrnet.build(arch).state_dict(), tmp_path / "own.pth")
    with pytest.raises(ValueError, match="holds hrnet, not hrnet-w32"):
        _identify.identify(tmp_path / "own.pth", name="hrnet-w32")
    torch.save(hrnet.build(hrnet.ARCHS["w32"][0]).state_dict(), tmp_path / "w32.pth")
    for name, size in (("hrnet-w32", (192, 256)), ("hrnet-w32-384x288", (288, 384))):
        card, _ = _identify.identify(tmp_path / "w32.pth", name=name)
        assert (card.model, card.codec.input_size) == (name, size)
