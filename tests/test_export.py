"""Export and certificates: folders for other engines, what they change, and that a changed file is found out."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import _tiny
import numpy as np
import pytest

import edgepose
from edgepose import certificate, cli, runtimes
from edgepose.card import Card
from edgepose.certificate import LIMITS, Figures, figures
from edgepose.codecs.bottomup import BottomUp
from edgepose.poses import Poses
from edgepose.predictor import Predictor

JOINTS = ((100, 40), (120, 100), (90, 180))


def poses(*people, scores=0.9):
    xy = np.array(people, np.float32).reshape(-1, 3, 2)
    return Poses(xy, np.full(xy.shape[:2], scores, np.float32), _tiny.SKELETON)


# ── figures ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_shifts_are_distances_of_the_same_people_in_any_order():
    near, far = np.array(JOINTS, float), np.array(JOINTS, float) + 200
    found = figures([poses(near, far)], [poses(far + (3, 4), near)], paired=False)
    assert (found.people, found.joints, found.lost, found.gained) == (2, 6, 0, 0)
    assert (found.most, found.mean) == (5.0, 2.5)


def test_people_are_lost_and_gained():
    one, other = np.array(JOINTS, float), np.array(JOINTS, float) + 200
    assert (figures([poses(one, other)], [poses(one)], False).lost) == 1
    assert (figures([poses(one)], [poses(one, other)], False).gained) == 1
    faint = poses(one, scores=0.05)
    assert figures([poses(one)], [faint], True).lost == 1  # there, but nobody would be shown
    assert figures([faint], [poses(one)], True).gained == 1
    assert figures([faint], [faint], True).people == 0


def test_limits_name_what_is_broken():
    good = Figures(3, 10, 100, 0, 0, 0.001, 0.01, 0.04, 0.0)
    assert good.faults(LIMITS["float32"]) == []
    assert "most shift 0.06 px" in replace(good, most=0.06).faults(LIMITS["float32"])[0]
    assert "1 of 10 people lost" in replace(good, lost=1).faults(LIMITS["float32"])[0]
    assert replace(good, lost=1, most=90.0).faults(LIMITS["int8"]) == []
    assert len(replace(good, joints=0).faults(LIMITS["float32"])) == 1
    assert replace(good, mean=float("nan")).faults(LIMITS["float32"])  # a comparison that failed is no pass


# ── canvas ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0), (1.0, 2.0)])
@pytest.mark.parametrize("size", [(320, 240), (240, 320), (500, 240)])
def test_a_canvas_gives_every_picture_the_same_input_and_joints_in_place(tmp_path, flip, scales, size):
    folder = _tiny.model(tmp_path)
    engine = edgepose.load(folder, threads=1).engine
    codec = BottomUp(_tiny.SKELETON, 256, scales=scales, flip=flip, canvas=(384, 256))
    shapes = []
    predictor = Predictor(Card.read(folder), codec, lambda batch: (shapes.append(batch.shape), engine(batch))[1])
    joints = [(x / 320 * size[0], y / 240 * size[1]) for x, y in JOINTS]
    found = predictor(_tiny.picture(joints, size, 6.0))
    assert {shape[1:] for shape in shapes} == {(3, 256, 384)}
    assert sum(shape[0] for shape in shapes) == (1 + flip) * len(scales)
    assert len(found) == 1
    zoom = min(384 / size[0], 256 / size[1]) / max(scales)  # at scale 1; the codec adds half a pixel of its input
    assert np.linalg.norm(found.xy[0] - np.array(joints), axis=1).max() < 2.0 / zoom


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("scales", [(1.0,), (0.5, 1.0)])
def test_a_canvas_of_the_pictures_shape_changes_nothing(tmp_path, flip, scales):
    folder = _tiny.model(tmp_path)
    engine, card = edgepose.load(folder, threads=1).engine, Card.read(folder)
    image = _tiny.picture(JOINTS, (384, 256), 6.0)
    codec = BottomUp(_tiny.SKELETON, 256, scales=scales, flip=flip)
    (plain,) = Predictor(card, codec, engine)(image)
    (found,) = Predictor(card, replace(codec, canvas=(384, 256)), engine)(image)
    assert np.abs(found.xy - plain.xy).max() < 1e-3
    assert np.abs(found.scores - plain.scores).max() < 1e-4


def test_a_canvas_whose_scales_split_map_pixels_is_refused():
    with pytest.raises(ValueError, match="canvas"):
        BottomUp(canvas=(250, 256))
    with pytest.raises(ValueError, match="canvas"):
        BottomUp(canvas=(256, 256), scales=(0.3, 1.0))


# ── export ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working folder with the model `tiny` and pictures of one person in `photos`."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    _tiny.model(tmp_path / "tiny")
    (tmp_path / "photos").mkdir()
    for n, size in enumerate([(320, 240), (240, 320)]):
        joints = [(x / 320 * size[0], y / 240 * size[1]) for x, y in JOINTS]
        _tiny.write(tmp_path / "photos" / f"{n}.png", _tiny.picture(joints, size))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def export(*args, runtime="onnx"):
    return cli.main(["export", "tiny", "--runtime", runtime, "--out", "made", "--pictures", "photos", *args])


def test_a_folder_with_card_certificate_and_pictures(here, capsys):
    assert export() == 0
    assert "certificate passed" in capsys.readouterr().out
    names = {"card.json", "certificate", "certificate.json", "model.onnx"}
    assert {p.name for p in (here / "made").iterdir()} == names
    made = Card.read("made").export
    assert made is not None
    assert (made.runtime, made.layout, made.input, made.decode, made.weights) == (
        "onnx",
        "nchw",
        None,
        "none",
        "float32",
    )
    assert made.source_sha256 == certificate.digest(here / "tiny" / "model.onnx")
    assert {"edgepose", "onnx", "onnxruntime", "torch"} <= set(made.versions)
    assert made.mean == (0.485, 0.456, 0.406)
    about = json.loads((here / "made" / "certificate.json").read_text())
    assert about["passed"] is True
    assert about["figures"]["people"] == 2
    assert about["figures"]["most"] == 0
    assert [row["file"] for row in about["pictures"]] == ["0.png", "1.png"]
    assert not [p for p in here.iterdir() if p.name.startswith(".")]


def test_verify_needs_no_torch_and_no_source(here):
    assert export() == 0
    shutil.rmtree("tiny")
    code = f"{_tiny.BLOCK}\nfrom edgepose.cli import main\nsys.exit(main(['verify', 'made']))"
    result = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == "verified"


def spoil(folder: Path) -> None:
    """Swap two joints' heatmaps in the weights: the graph stays sound, the poses do not."""
    import onnx

    model = onnx.load(folder / "model.onnx")
    for weight in model.graph.initializer:
        if weight.name == "mean":
            array = onnx.numpy_helper.to_array(weight).copy()
            weight.CopyFrom(onnx.numpy_helper.from_array(array[:, [2, 1, 0]] + np.float32(0.3), "mean"))
    onnx.save(model, folder / "model.onnx")


def test_a_changed_file_is_found_out_by_its_digest_and_by_its_poses(here, capsys):
    assert export() == 0
    spoil(here / "made")
    assert cli.main(["verify", "made"]) == 1
    said = capsys.readouterr().out
    assert "model.onnx is not the file that was certified" in said
    assert said.endswith("NOT verified\n")
    path = here / "made" / "certificate.json"
    about = json.loads(path.read_text())
    about["files"]["model.onnx"] = certificate.digest(here / "made" / "model.onnx")
    path.write_text(json.dumps(about))
    assert cli.main(["verify", "made"]) == 1  # whoever changed the digest too
    said = capsys.readouterr().out
    assert "is not the file" not in said
    assert "shift" in said or "people lost" in said


def test_a_product_that_is_off_is_written_with_a_certificate_that_failed(here, monkeypatch):
    from edgepose.runtimes import onnx as engine

    read = engine.read

    def off(card, path, device="cpu", threads=None):
        run = read(card, path, device, threads)
        return shifted(run, card.export and path.parent.name.startswith(".made") and not path.name.startswith("."))

    monkeypatch.setattr(engine, "read", off)
    assert export() == 1
    about = json.loads((here / "made" / "certificate.json").read_text())
    assert about["passed"] is False
    assert any("shift" in fault for fault in about["faults"])


def shifted(run, exported):
    """The run of an exported file moved down by one map pixel (sideways the flip test would make up for it)."""
    return (lambda batch: [np.roll(maps, 1, 2) for maps in run(batch)]) if exported else run


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["--runtime", "onx"], "Did you mean 'onnx'"),
        (["--runtime", "onnx", "--input", "250x256"], "multiples of 64"),
        (["--runtime", "onnx", "--input", "big"], "height x width"),
        (["--runtime", "onnx", "--input", "256x256", "--dynamic"], "give one of them"),
        (["--runtime", "ncnn", "--dynamic"], "takes inputs of one size"),
        (["--runtime", "ncnn", "--decode", "peaks"], "leave --decode peaks out"),
        (["--runtime", "onnx", "--int8"], "--calibrate"),
        (["--runtime", "ncnn", "--int8", "--calibrate", "photos"], "has no int8 here: onnx"),
        (["--runtime", "onnx", "--data", "coco"], "both --data and --root"),
        (["--runtime", "onnx", "--pictures", "nowhere"], "no such file: nowhere"),
        (["--runtime", "onnx", "--out", "photos"], "photos is there already"),
    ],
)
def test_what_cannot_be_exported_is_one_line_and_2(here, args, says, capsys):
    before = sorted(os.listdir(here))
    assert cli.main(["export", "tiny", *args]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert len(said.err.splitlines()) == 1
    assert sorted(os.listdir(here)) == before


def test_a_missing_engine_is_named_with_its_extra(here, monkeypatch, capsys):
    from edgepose.runtimes import openvino

    monkeypatch.setattr(openvino, "WRITES", ("no_such_engine",))
    assert export(runtime="openvino") == 2
    assert 'this needs no_such_engine: pip install "edgepose[openvino]"' in capsys.readouterr().err
    assert not (here / "made").exists()


def test_what_a_converter_says_is_one_line(here, monkeypatch, capsys):
    from edgepose.runtimes import onnx as engine

    def refuse(*_):
        raise RuntimeError("\n  no operator Erf\n  at line 3")

    monkeypatch.setattr(engine, "write", refuse)
    assert export() == 2
    assert capsys.readouterr().err == "edgepose: onnx cannot take litepose-xs: no operator Erf\n"
    assert not [p for p in here.iterdir() if "made" in p.name]


def test_exports_begin_with_a_source(here, capsys):
    assert export() == 0
    assert cli.main(["export", "made", "--runtime", "onnx", "--out", "again"]) == 2
    assert "is itself an export" in capsys.readouterr().err
    assert cli.main(["verify", "tiny"]) == 2
    assert "has no certificate.json" in capsys.readouterr().err


def test_a_fixed_input_and_peaks_keep_the_poses(here):
    pytest.importorskip("onnxscript")
    assert export("--input", "256x384") == 0
    card = Card.read("made")
    assert card.export is not None
    assert card.export.input == (256, 384)
    image = _tiny.picture(JOINTS)
    plain = edgepose.load("made", threads=1)(image)
    shutil.rmtree("made")
    assert export("--decode", "peaks") == 0
    model = edgepose.load("made", threads=1)
    assert model.engine(_tiny.batch(1, 256, 384))[0].shape == (1, 3, 30, 4)
    (found,) = model(image)
    assert np.abs(found.xy - np.array(JOINTS)).max() < 1.1
    assert np.abs(plain.xy[0] - np.array(JOINTS)).max() < 1.1


@pytest.mark.parametrize("runtime", ["openvino", "ncnn", "executorch", "litert"])
def test_other_engines_make_certified_folders(here, runtime):
    engine = __import__(f"edgepose.runtimes.{runtime}", fromlist=["x"])
    for module in (*engine.WRITES, *engine.READS):
        pytest.importorskip(module)
    assert export(runtime=runtime) == 0
    card = Card.read("made")
    assert card.export is not None
    assert card.export.layout == engine.LAYOUT
    assert card.export.input == (None if engine.FREE else (256, 256))
    (found,) = edgepose.load("made", threads=1)(_tiny.picture(JOINTS))
    assert np.abs(found.xy - np.array(JOINTS)).max() < 1.5
    assert cli.main(["verify", "made"]) == 0


def test_core_ml_is_made_anywhere_and_judged_on_macos(here, capsys):
    pytest.importorskip("coremltools")
    if sys.platform == "darwin":
        pytest.skip("runs here")
    assert export(runtime="coreml") == 0
    assert json.loads((here / "made" / "certificate.json").read_text())["passed"] is None
    assert cli.main(["verify", "made"]) == 2
    assert "coreml runs on macOS alone" in capsys.readouterr().err


def test_the_default_model_is_looked_at_in_the_boxes_of_its_certificate(tmp_path, monkeypatch):
    """Shipped pictures, people found by the source; only this network is compared."""
    pytest.importorskip("torch")
    pytest.importorskip("onnx")
    monkeypatch.chdir(tmp_path)
    assert cli.main(["export", "efficientlite-0-person", "--runtime", "onnx"]) == 0
    about = json.loads((tmp_path / "efficientlite-0-person-onnx" / "certificate.json").read_text())
    assert len(about["pictures"]) == 3
    assert about["figures"]["people"] >= 3
    assert all(len(row["boxes"]) == len(row["people"]) for row in about["pictures"])


def test_every_runtime_says_what_it_is():
    from edgepose.folder import entry, names

    for name in names("edgepose.runtimes"):
        engine = entry("edgepose.runtimes", name)
        assert engine.LAYOUT in ("nchw", "nhwc")
        assert engine.WRITES and engine.EXTRA and engine.SUFFIX
        assert engine.READS or engine.state()
        assert {engine.FREE, engine.PEAKS} <= {True, False}


def test_pictures_one_by_one_and_of_one_size():
    seen = []
    run = runtimes.one_by_one(lambda b: (seen.append(len(b)), [b * 2])[1], (4, 6))
    batch = np.arange(144, dtype=np.float32).reshape(2, 3, 4, 6)
    assert np.array_equal(run(batch)[0], batch * 2)
    assert seen == [1, 1]
    with pytest.raises(ValueError, match="pictures of 4x6"):
        run(np.zeros((1, 3, 6, 4), np.float32))
