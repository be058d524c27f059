"""Keypoint AP: perfect and hopeless answers, the similarity's formula, and the command."""

import json
from functools import partial

import _tiny
import cv2
import numpy as np
import pytest

pytest.importorskip("faster_coco_eval")

from edgepose import cli, evaluate
from edgepose.data import Record
from edgepose.data._oks import NAMES
from edgepose.poses import Poses
from edgepose.skeleton import COCO17


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


def test_the_command_prints_the_figures(tmp_path, capsys):
    (tmp_path / "coco_small").mkdir()
    cv2.imwrite(str(tmp_path / "coco_small" / "1.png"), np.zeros((64, 64, 3), np.uint8))
    labels = {"images": [{"id": 1, "file_name": "1.png", "width": 64, "height": 64}], "annotations": []}
    (tmp_path / "coco_small.json").write_text(json.dumps(labels))
    model = _tiny.model(tmp_path / "model")
    assert cli.main(["eval", "--root", str(tmp_path), "--split", "small", "--model", str(model)]) == 0
    assert "AP 0.0000" in capsys.readouterr().out
    assert cli.main(["eval", "--root", str(tmp_path), "--split", "val", "--model", str(model)]) == 2
    assert "person_keypoints_val2017.json" in capsys.readouterr().err
