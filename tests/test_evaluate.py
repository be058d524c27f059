"""Keypoint AP: perfect and hopeless answers, the similarity's formula, and the command."""

import contextlib
import csv
import io
import json
import shutil
from dataclasses import replace
from functools import partial

import _tiny
import cv2
import numpy as np
import pytest

pytest.importorskip("faster_coco_eval")

from edgepose import cli, evaluate
from edgepose.data import Record
from edgepose.data._oks import CROWD_NAMES, NAMES, average_precision
from edgepose.poses import Poses
from edgepose.predictor import load
from edgepose.skeleton import COCO17
from edgepose.sources import read_image


def records(count=5, seed=0):
    rng = np.random.default_rng(seed)
    out = []
    for i in range(count):
        xy = rng.uniform(100, 400, (3, 1, 2)) + rng.uniform(-60, 60, (3, 17, 2))
        boxes = np.concatenate([xy.min(1), xy.max(1)], 1)
        truth = Poses(xy, rng.random((3, 17)) > 0.2, COCO17, boxes=boxes)
        areas = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1).astype(np.float32)
        out.append(Record(i, f"{i}.jpg", (640, 480), partial(np.full, (480, 640, 3), i, np.uint8), truth, areas))
    return out


def test_truth_scores_one_and_nonsense_zero():
    given = records()
    answers = {r.id: r.truth for r in given}
    predict = lambda image: answers[int(image[0, 0, 0])]  # noqa: E731
    assert evaluate.evaluate(predict, given)["AP"] == pytest.approx(1.0)
    far = lambda image: Poses(predict(image).xy + 300, predict(image).scores, COCO17)  # noqa: E731
    assert evaluate.evaluate(far, given)["AP"] == 0
    assert evaluate.evaluate(lambda image: Poses.empty(COCO17), given) == dict.fromkeys(NAMES, 0.0)


@pytest.mark.parametrize(("similarity", "ap"), [(0.72, 0.5), (0.53, 0.1), (0.49, 0.0)])
def test_joints_off_by_a_known_similarity(similarity, ap):
    """Every joint moved so that exp(-d^2 / (2 area (2 sigma)^2)) is the same everywhere."""
    given = records(3)
    away = np.sqrt(-2 * np.log(similarity)) * 2 * np.array(COCO17.sigmas)
    answers = {
        r.id: Poses(r.truth.xy + np.sqrt(r.areas)[:, None, None] * away[:, None] * [1, 0], r.truth.scores, COCO17)
        for r in given
    }
    assert evaluate.evaluate(lambda image: answers[int(image[0, 0, 0])], given)["AP"] == pytest.approx(ap, abs=1e-3)


def labels(folder, truth, name="1.png", size=(640, 480), split="small"):
    """A split of one photograph with people (N, 17, 2) in COCO's format, without the picture."""
    people = [np.concatenate([xy, np.full((17, 1), 2)], 1).ravel().tolist() for xy in truth]
    rows = [{"id": i, "image_id": 1, "keypoints": k, "num_keypoints": 17, "area": 9e3} for i, k in enumerate(people)]
    rows = [{**row, "iscrowd": 0, "bbox": [0, 0, 150, 120]} for row in rows]
    images = [{"id": 1, "file_name": name, "width": size[0], "height": size[1]}]
    (folder / f"coco_{split}").mkdir(exist_ok=True)
    (folder / f"coco_{split}.json").write_text(json.dumps({"images": images, "annotations": rows}))


def test_the_command_runs_a_model(tmp_path, photos, capsys):
    """The astronaut, labelled with what the model finds: AP is 1, and the results file says the same."""
    image = read_image(photos / "astronaut.jpg")
    found = load()(image)
    first = found[[int(np.argmax(found.person_scores))]]
    labels(tmp_path, first.xy.astype(float), "astronaut.jpg", (image.shape[1], image.shape[0]))
    shutil.copy(photos / "astronaut.jpg", tmp_path / "coco_small")
    words = ["eval", "--root", str(tmp_path), "--split", "small", "--out", str(tmp_path / "out")]
    assert cli.main(words) == 0
    assert "AP 1.0000" in capsys.readouterr().out
    rows = json.loads((tmp_path / "out" / "results.json").read_text())
    assert len(rows) == len(found) and max(r["score"] for r in rows) == pytest.approx(float(max(found.person_scores)))


def test_the_command_scores_a_results_file(tmp_path, capsys):
    truth = np.random.default_rng(0).uniform(0, 120, (2, 17, 2)) + [[[0, 0]], [[300, 200]]]
    labels(tmp_path, truth)
    guess = truth[0].copy()
    guess[9] += [4, 3]
    row = {"image_id": 1, "category_id": 1, "keypoints": np.pad(guess, ((0, 0), (0, 1))).ravel().tolist(), "score": 1}
    (tmp_path / "mine.json").write_text(json.dumps([row]))
    words = ["eval", "--root", str(tmp_path), "--split", "small", "--results", str(tmp_path / "mine.json")]
    assert cli.main([*words, "--out", str(tmp_path / "out")]) == 0
    said = capsys.readouterr().out
    assert "(AP) @[ IoU=0.50:0.95 | area=   all | maxDets= 20 ] = 0.505" in said  # 51 of 101 recalls
    assert "(AR) @[ IoU=0.75      | area=   all | maxDets= 20 ] = 0.500" in said
    assert "(AP) @[ IoU=0.50:0.95 | area= large | maxDets= 20 ] = -1.000" in said
    figures = json.loads((tmp_path / "out" / "figures.json").read_text())
    assert figures["people"] == 2 and figures["figures"]["AP"] == pytest.approx(51 / 101)
    joints = list(csv.DictReader((tmp_path / "out" / "per_joint.csv").read_text().splitlines()))
    wrist = next(j for j in joints if j["joint"] == "left_wrist")
    assert float(wrist["pixels"]) == pytest.approx(5, abs=1e-3) and float(wrist["recall"]) == 0.5
    assert cv2.imread(str(tmp_path / "out" / "precision_recall.png")) is not None


def test_what_the_command_refuses(tmp_path, capsys):
    labels(tmp_path, np.zeros((0, 17, 2)))
    model = _tiny.model(tmp_path / "model")
    assert cli.main(["eval", "--root", str(tmp_path), "--split", "small", "--model", str(model)]) == 2
    assert "joints of three" in capsys.readouterr().err
    assert cli.main(["eval", "--root", str(tmp_path), "--split", "val"]) == 2
    assert "person_keypoints_val2017.json" in capsys.readouterr().err


def test_the_ten_lines_are_those_of_pycocotools(tmp_path):
    from _scene import labels as coco_labels
    from _scene import scene

    coco, judge = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    given, results = scene(2)
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        truth = coco.COCO()
        truth.dataset = coco_labels(given)
        truth.createIndex()
        scorer = judge.COCOeval(truth, truth.loadRes([dict(r) for r in results]), "keypoints")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    lines = [line for line in text.getvalue().splitlines() if "maxDets" in line]
    assert evaluate.official(average_precision(given, results)).splitlines() == lines


def test_tables_of_other_data():
    crowd = evaluate.official(dict.fromkeys(CROWD_NAMES, 0.25)).splitlines()
    assert crowd[6] == " Average Precision  (AP) @[ IoU=0.50:0.95 | type=  easy | maxDets= 20 ] = 0.250"
    names, values, fine = evaluate.official({"Head": 0.961, "Mean": 0.5, "Head@0.1": 0.3, "AUC": -1.0}).splitlines()
    assert names.split() == ["Head", "Mean", "AUC"] and values.split() == ["96.1", "50.0", "-"]
    assert fine.split()[0] == "30.0"


def test_models_of_one_person_get_the_labelled_boxes():
    given = records(3)
    seen = []

    def predict(image, boxes):
        record = given[int(image[0, 0, 0])]
        assert (boxes == record.truth.boxes).all()
        seen.append(record.id)
        return record.truth[[0, 1, 2]]

    rows = evaluate.detections(predict, given, boxes=True)
    assert [r["person"] for r in rows] == [0, 1, 2] * 3 and seen == [0, 1, 2]
    assert average_precision(given, rows)["AP"] == pytest.approx(1)
    with pytest.raises(ValueError, match="no boxes"):
        evaluate.detections(predict, [replace(given[0], truth=replace(given[0].truth, boxes=None))], boxes=True)
