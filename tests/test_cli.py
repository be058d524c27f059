import json
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import _tiny
import cv2
import numpy as np
import pytest
from PIL import Image as PIL

from edgepose import __version__, catalogue, cli
from edgepose.folder import names

JOINTS = ((100, 40), (120, 100), (90, 180))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    return str(_tiny.model(tmp_path_factory.mktemp("tiny")))


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """An empty working folder with one good picture beside it, in photos/."""
    (tmp_path / "photos").mkdir()
    _tiny.write(tmp_path / "photos" / "000000000139.png", _tiny.picture(JOINTS))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*args, **options) -> subprocess.CompletedProcess:
    """The real command in a process of its own."""
    command = [sys.executable, "-m", "edgepose", *map(str, args)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, **options)


def near(joints, expected=JOINTS, limit=1.1):
    assert np.linalg.norm(np.array(joints)[:, :2] - np.array(expected), axis=1).max() < limit, joints


def test_pictures_and_json(here, model, capsys):
    assert cli.main(["predict", "photos", "--model", model, "--out", "results"]) == 0
    said = capsys.readouterr()
    assert said.out.splitlines()[0].startswith("photos/000000000139.png: 1 person (0.")
    assert said.out.splitlines()[-1] == "1 picture, 1 person -> results"
    assert said.err == ""
    assert sorted(p.name for p in (here / "results").iterdir()) == ["000000000139.jpg", "000000000139.json"]
    found = json.loads((here / "results" / "000000000139.json").read_text())
    assert found.keys() == {"image", "width", "height", "model", "skeleton", "people"}
    assert (found["image"], found["width"], found["height"]) == ("photos/000000000139.png", 320, 240)
    assert found["skeleton"] == {"joints": ["head", "neck", "pelvis"], "limbs": [["head", "neck"], ["neck", "pelvis"]]}
    (person,) = found["people"]
    near(list(person["joints"].values()))
    assert person["score"] > 0.8
    assert person["joints"]["neck"][2] > 0.8
    near([person["box"][:2], person["box"][2:]], [(90, 40), (120, 180)])
    drawn = cv2.imread(str(here / "results" / "000000000139.jpg"))
    assert drawn.shape == (240, 320, 3)
    middle = drawn[70, 110].astype(int)  # on the limb from head to neck, where the picture is black
    assert middle.min() > 200


def test_without_out_there_is_a_folder_in_the_working_folder(here, model, capsys):
    assert cli.main(["predict", "photos", "--model", model]) == 0
    assert capsys.readouterr().out.endswith("-> edgepose-out\n")
    assert len(list((here / "edgepose-out").iterdir())) == 2


def test_results_are_coco_and_unthresholded(here, model):
    _tiny.write(here / "photos" / "street.png", _tiny.picture(JOINTS) // 3)
    assert cli.main(["predict", "photos", "--model", model, "--results", "deep/r.json", "--threshold", "0.9"]) == 0
    rows = json.loads((here / "deep" / "r.json").read_text())
    assert [row["image_id"] for row in rows] == [139, "street"]
    for row in rows:
        assert row.keys() == {"image_id", "category_id", "keypoints", "score"}
        assert row["category_id"] == 1
        assert len(row["keypoints"]) == 9
        near(np.reshape(row["keypoints"], (3, 3)))
    assert rows[1]["score"] < 0.4 < rows[0]["score"]
    assert sorted(os.listdir()) == ["deep", "photos"]  # asked for results only


def test_threshold_is_for_pictures_and_plain_json(here, model):
    _tiny.write(here / "photos" / "street.png", _tiny.picture(JOINTS) // 3)
    for threshold, people in ((0.2, 1), (0.5, 0)):
        args = ["predict", "photos/street.png", "--model", model, "--out", "o", "--threshold", str(threshold)]
        assert cli.main(args) == 0
        assert len(json.loads((here / "o" / "street.json").read_text())["people"]) == people


def test_same_stems_do_not_overwrite_each_other(here, model):
    (here / "more").mkdir()
    _tiny.write(here / "more" / "000000000139.bmp", _tiny.picture(JOINTS, (400, 300)))
    assert cli.main(["predict", "photos", "more", "more/*.bmp", "--model", model, "--out", "o"]) == 0
    assert sorted(p.name for p in (here / "o").glob("*.json")) == ["000000000139-2.json", "000000000139.json"]
    assert json.loads((here / "o" / "000000000139-2.json").read_text())["width"] == 400
    assert cli.main(["predict", "photos", "more", "--model", model, "--results", "r.json"]) == 2
    assert not (here / "r.json").exists()


def test_originals_are_never_overwritten(here, model, capsys):
    source = _tiny.write(here / "photos" / "a.jpg", _tiny.picture(JOINTS))
    before = source.read_bytes()
    assert cli.main(["predict", "photos/a.jpg", "--model", model, "--out", "photos"]) == 2
    assert cli.main(["predict", "photos/a.jpg", "--model", model, "--results", "photos/a.jpg"]) == 2
    assert source.read_bytes() == before
    assert capsys.readouterr().err.count("overwrite") == 2


def test_no_flip_and_threads_reach_the_model(here, model, monkeypatch):
    from edgepose import predictor

    calls = []
    load = predictor.load
    monkeypatch.setattr(predictor, "load", lambda *args: (calls.append(args), load(*args))[1])
    args = ["predict", "photos", "--model", model, "--out", "o", "--no-flip", "--threads", "1", "--runtime", "onnx"]
    assert cli.main(args) == 0
    assert cli.main(["predict", "photos", "--model", model, "--out", "o"]) == 0
    assert [call[:5] for call in calls] == [(model, "onnx", "cpu", 1, False), (model, None, "cpu", None, None)]


# ── pictures that must work ──────────────────────────────────────────────────────────────────────────────────────────


def good(folder: Path, kind: str) -> tuple[Path, tuple, float]:
    """A picture of one kind; where its joints are, upright; how far off they may be."""
    rgb = _tiny.picture(JOINTS)
    if kind == "rgba":
        PIL.fromarray(np.dstack([rgb, np.full(rgb.shape[:2], 255, np.uint8)])).save(folder / "a.png")
        return folder / "a.png", JOINTS, 1.1
    if kind == "16-bit":
        return _tiny.write(folder / "a.png", rgb.astype(np.uint16) * 257), JOINTS, 1.1
    if kind == "cmyk":
        PIL.fromarray(rgb).convert("CMYK").save(folder / "a.jpg", quality=98)
        return folder / "a.jpg", JOINTS, 2.0
    if kind == "exif":
        exif = PIL.Exif()
        exif[0x112] = 6  # to be turned clockwise for display
        PIL.fromarray(np.rot90(rgb)).save(folder / "a.jpg", quality=98, exif=exif)
        return folder / "a.jpg", JOINTS, 1.6
    assert kind == "huge"
    large = cv2.resize(rgb, (12_000, 9_000), interpolation=cv2.INTER_LINEAR)
    return _tiny.write(folder / "a.jpg", large), tuple((x * 37.5 + 18, y * 37.5 + 18) for x, y in JOINTS), 45.0


@pytest.mark.parametrize("kind", ["rgba", "16-bit", "cmyk", "exif", "huge"])
def test_unusual_pictures_have_their_joints_in_the_right_place(here, model, kind):
    path, joints, limit = good(here, kind)
    begin = time.monotonic()
    assert cli.main(["predict", str(path), "--model", model, "--out", "o"]) == 0
    assert time.monotonic() - begin < 60
    found = json.loads((here / "o" / "a.json").read_text())
    (person,) = found["people"]
    near(list(person["joints"].values()), joints, limit)
    drawn = cv2.imread(str(here / "o" / "a.jpg"))
    assert drawn.shape[:2] == (found["height"], found["width"])


@pytest.mark.parametrize(("size", "grey"), [((1, 1), False), ((1, 1), True), ((320, 240), True), ((3000, 2), False)])
def test_tiny_grey_and_odd_shaped_pictures_go_through(here, model, size, grey):
    path = here / "a.png"
    path.write_bytes(cv2.imencode(".png", np.full((size[1], size[0], 3)[: 2 if grey else 3], 9, np.uint8))[1].tobytes())
    assert cli.main(["predict", str(path), "--model", model, "--out", "o"]) == 0
    found = json.loads((here / "o" / "a.json").read_text())
    assert (found["width"], found["height"]) == size


# ── pictures and folders that cannot work ────────────────────────────────────────────────────────────────────────────


def bad(folder: Path, kind: str) -> str:
    """A source that cannot be read."""
    path = folder / "broken.jpg"
    jpeg = _tiny.write(path, _tiny.picture(JOINTS)).read_bytes()
    contents = {
        "empty": b"",
        "truncated": jpeg[: len(jpeg) * 2 // 3],
        "text": b"just a letter\n" * 99,
        "half jpeg": jpeg[:99],
    }
    if kind in contents:
        path.write_bytes(contents[kind])
        return str(path)
    path.unlink()
    if kind == "no pictures":
        (folder / "nothing").mkdir(exist_ok=True)
        return "nothing"
    return {"missing": "missing.jpg", "no match": "nothing*.jpg"}[kind]


BAD = ["missing", "empty", "truncated", "half jpeg", "text", "no pictures", "no match"]


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_source_alone_is_one_line_and_2(here, model, kind, capsys):
    source = bad(here, kind)
    assert cli.main(["predict", source, "--model", model, "--out", "o"]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("edgepose: ")
    assert source in said.err
    assert not list(here.glob("o/*"))


@pytest.mark.parametrize("kind", BAD)
def test_a_bad_source_among_good_ones_is_reported_and_the_rest_goes_on(here, model, kind, capsys):
    source = bad(here, kind)
    args = ["predict", source, "photos", "--model", model, "--out", "o", "--results", "r.json"]
    assert cli.main(args) == 1
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert source in said.err
    assert sorted(p.name for p in (here / "o").iterdir()) == ["000000000139.jpg", "000000000139.json"]
    assert len(json.loads((here / "r.json").read_text())) == 1


def test_a_bad_file_in_a_folder(here, model, capsys):
    (here / "photos" / "1.jpg").write_bytes(b"no")
    assert cli.main(["predict", "photos", "--model", model, "--out", "o"]) == 1
    assert "photos/1.jpg" in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--out", "--results"])
@pytest.mark.parametrize("place", ["file/below", "file"])
def test_unwritable_output_is_said_before_any_work(here, model, capsys, flag, place, monkeypatch):
    (here / "file").write_text("in the way") if flag == "--out" or place != "file" else (here / "file").mkdir()
    from edgepose.predictor import Predictor

    monkeypatch.setattr(Predictor, "__call__", lambda *_: pytest.fail("worked before it looked"))
    assert cli.main(["predict", "photos", "--model", model, flag, place]) == 2
    said = capsys.readouterr()
    assert len(said.err.splitlines()) == 1
    assert said.err.startswith("edgepose: cannot write")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission(here, model, capsys):
    (here / "locked").mkdir(mode=0o500)
    assert cli.main(["predict", "photos", "--model", model, "--out", "locked"]) == 2
    assert "cannot write to locked: Permission denied" in capsys.readouterr().err


def damaged(folder: Path, model: str, kind: str) -> str:
    if kind == "unknown":
        return "litepose-xz"
    target = folder / "model"
    target.mkdir()
    for path in Path(model).iterdir():
        (target / path.name).write_bytes(path.read_bytes())
    card = json.loads((target / "card.json").read_text())
    whole = (target / "model.onnx").read_bytes()
    if kind == "newer":
        (target / "card.json").write_text(json.dumps({**card, "format": 7, "codec": {"kind": "neural"}}))
    elif kind == "card":
        (target / "card.json").write_text('{"model": ')
    elif kind == "weights":
        (target / "model.onnx").write_bytes(whole[: len(whole) // 2])
    elif kind == "joints":
        card["codec"]["skeleton"] = "coco17"
        (target / "card.json").write_text(json.dumps(card))
    return str(target)


@pytest.mark.parametrize(
    ("kind", "says"),
    [
        ("unknown", "Did you mean 'litepose-xs'"),
        ("newer", "format 7 is newer than this edgepose understands (up to 1)"),
        ("card", "card.json is not a usable model card"),
        ("weights", "cannot use"),
        ("joints", "does not hold 17 joints"),
    ],
)
def test_models_that_cannot_be_used(here, model, kind, says, capsys):
    assert cli.main(["predict", "photos", "--model", damaged(here, model, kind), "--out", "o"]) == 2
    said = capsys.readouterr()
    assert says in said.err
    assert len(said.err.splitlines()) == 1


@pytest.mark.parametrize(
    "args", [["predict"], ["import", "gone.pth", "--out", "o"], ["import", __file__, "--out", "o", "--input", "9"]]
)
def test_wrong_arguments_are_one_line(here, args, capsys):
    pytest.importorskip("torch")
    assert cli.main(args) == 2
    said = capsys.readouterr()
    assert said.err.startswith("edgepose: ")
    assert len(said.err.splitlines()) == 1


# ── the real command ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_real_command_reports_bad_files_without_noise(here, model):
    png = (here / "photos" / "000000000139.png").read_bytes()
    (here / "photos" / "cut.png").write_bytes(png[: len(png) // 2])
    (here / "photos" / "cut.bmp").write_bytes(_tiny.write(here / "a.bmp", _tiny.picture(JOINTS)).read_bytes()[:5000])
    (here / "photos" / "text.jpg").write_text("hello")
    result = run("predict", "photos", "--model", model, "--out", "o", cwd=here)
    assert result.returncode == 1
    assert [line.split(":")[0] for line in result.stderr.splitlines()] == ["edgepose"] * 3
    assert result.stdout.splitlines()[-1] == "1 picture, 1 person -> o"


def test_real_command_exit_codes(here):
    assert run("predict", "gone.jpg", "--model", "gone", cwd=here).returncode == 2
    assert run("fly", cwd=here).returncode == 2
    result = run("--version", cwd=here)
    assert (result.returncode, result.stdout) == (0, f"edgepose {__version__}\n")
    assert run("--help", cwd=here).returncode == 0


@pytest.mark.skipif(os.name == "nt", reason="sends a POSIX signal")
def test_ctrl_c_is_130_without_traceback(here, model):
    source = here / "photos" / "000000000139.png"
    for i in range(400):
        os.link(source, here / "photos" / f"{i}.png")
        (here / "photos" / f"{i}.png").unlink()
        (here / "photos" / f"{i}.png").write_bytes(source.read_bytes())
    command = [sys.executable, "-u", "-m", "edgepose", "predict", "photos", "--model", model, "--out", "o"]
    heard = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}  # jobs in the background ignore it
    process = subprocess.Popen(command, cwd=here, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **heard)
    assert process.stdout is not None
    process.stdout.readline()  # the first picture is done
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors == "edgepose: stopped\n"
    assert not [p for p in (here / "o").iterdir() if p.name.startswith(".")]  # nothing half written


# ── models, info ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_models_gives_height_before_width(capsys):
    assert cli.main(["models"]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert any("efficientlite-0-person (default)" in row and "128x96" in row for row in rows)
    assert any("vitpose-b " in row and "256x192" in row for row in rows)
    (binary,) = [row.split() for row in rows if row.split()[:1] == ["bihrnet-w32"]]
    assert binary[5:8] == ["0.14", "0.18", "0.25"], "real multiply-adds, the paper's count, OPs"


def test_models_lists_bundled_and_known(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(catalogue, "BUNDLED", tmp_path)
    monkeypatch.setattr(catalogue, "bundled", lambda: ["tiny-one"])
    _tiny.model(tmp_path / "tiny-one")
    assert cli.main(["models"]) == 0
    out = capsys.readouterr().out
    (tiny,) = [line for line in out.splitlines() if "tiny-one" in line]
    assert "bundled" in tiny
    assert "256x256" in tiny
    (large,) = [line for line in out.splitlines() if "litepose-l " in line and "coco17" in line]
    for part in ("512x512", "5.74 M", "9.98", "13.73", "0.625", "none"):
        assert part in large


def test_info_names_missing_extras(monkeypatch, capsys):
    from importlib import metadata

    version = metadata.version

    def without_torch(name):
        if name == "torch":
            raise metadata.PackageNotFoundError
        return version(name)

    monkeypatch.setattr(metadata, "version", without_torch)
    assert cli.main(["info"]) == 0
    out = capsys.readouterr().out
    assert 'extra train: missing torch: pip install "edgepose[train]"' in out
    assert f"edgepose {__version__}" in out
    assert "runtime onnx: predicts on cpu" in out
    assert 'runtime pytorch: absent: pip install "edgepose[train]"' in out
    assert all(f"runtime {name}: " in out for name in names("edgepose.runtimes"))


def test_models_and_info_need_only_the_core(here):
    code = f"""{_tiny.BLOCK}
from edgepose.cli import main
codes = [main(line.split()) for line in ("models", "info", "train x", "import x --out o")]
assert codes == [0, 0, 2, 2], codes
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=here, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert 'pip install "edgepose[train]"' in result.stderr
    assert 'pip install "edgepose[export]"' in result.stderr


def test_extras_are_those_of_the_package():
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
    for extra, packages in cli.EXTRAS.items():
        assert {line.split(">")[0] for line in project["optional-dependencies"][extra]} == set(packages)
