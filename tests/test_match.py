"""Matching agrees with pycocotools detection by detection; figures per joint on cases that are counted by hand."""

import contextlib
import io

import numpy as np
import pytest
from _scene import labels, scene

from edgepose.data import Record
from edgepose.data._match import match, match_all, per_joint
from edgepose.poses import Poses
from edgepose.skeleton import COCO17


def official(records, results, threshold):
    """{row number: (labelled person or None, ignored)} by pycocotools, for the detections that count."""
    coco, judge = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    truth = coco.COCO()
    truth.dataset = labels(records)
    people = {}  # annotation -> number in its record; those from Record.others come after the labelled ones
    for a in truth.dataset["annotations"]:
        people[a["id"]] = sum(1 for b in truth.dataset["annotations"][: a["id"] - 1] if b["image_id"] == a["image_id"])
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        scorer = judge.COCOeval(truth, truth.loadRes([dict(r) for r in results]), "keypoints")
        scorer.params.iouThrs = np.array([threshold])
        scorer.evaluate()
    answer = {}
    for image in scorer.evalImgs[: len(records)]:
        if image:
            for d, g, ignored in zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True):
                answer[d - 1] = (people[int(g)] if g and not ignored else None, bool(ignored))
    return answer


@pytest.mark.parametrize("threshold", [0.1, 0.5, 0.8])
@pytest.mark.parametrize("seed", range(3))
def test_matching_is_the_official_one(seed, threshold):
    records, results = scene(seed)
    mine = {}
    for found in match_all(records, results, threshold):
        for i, p, excused in zip(found.order, found.person, found.excused, strict=True):
            mine[int(i)] = (int(p) if p >= 0 else None, bool(excused))
    expected = official(records, results, threshold)
    assert mine == expected
    assert sum(p is not None for p, _ in mine.values()) > 5 and any(e for _, e in mine.values())


def test_similarity_by_hand():
    """A joint two sigmas of the scale away has exp(-1/2)."""
    xy = np.random.default_rng(0).uniform(0, 100, (1, 17, 2)).astype(np.float32)
    record = Record(
        1, "", (9, 9), lambda: np.zeros((1, 1, 3), np.uint8), Poses(xy, xy[..., 0] > 0, COCO17), np.float32([400])
    )
    guess = xy[0].astype(float)
    guess[0, 0] += 2 * 0.026 * 20
    guess[9, 1] -= 2 * 2 * 0.062 * 20
    row = {"image_id": 1, "keypoints": np.pad(guess, ((0, 0), (0, 1))).ravel(), "score": 1}
    found = match(record, [row])
    assert found.near[0, 0, [0, 9, 5]] == pytest.approx([np.exp(-0.5), np.exp(-2), 1], abs=1e-6)
    assert found.oks[0, 0] == pytest.approx((15 + np.exp(-0.5) + np.exp(-2)) / 17, abs=1e-6)


def test_figures_per_joint():
    """Two people, one not found; the wrist of the other is 6 px off on a scale of 100 px."""
    xy = np.random.default_rng(0).uniform(0, 100, (2, 17, 2)).astype(np.float32)
    xy[1] += 400
    seen = np.ones((2, 17))
    seen[:, 3] = 0
    seen[1, 4] = 0
    areas = np.float32([10000, 10000])
    record = Record(1, "", (9, 9), lambda: np.zeros((1, 1, 3), np.uint8), Poses(xy, seen, COCO17), areas)
    guess = xy[0].astype(float)
    guess[9] += [6, 0]
    guess[0] += [0, 80]
    rows = per_joint([record], [{"image_id": 1, "keypoints": np.pad(guess, ((0, 0), (0, 1))).ravel(), "score": 1}])
    by = {row["joint"]: row for row in rows}
    near = np.exp(-(6**2) / (2 * 1e4 * (2 * 0.062) ** 2))
    assert by["left_wrist"] == {"joint": "left_wrist", "labels": 2, "recall": 0.5} | {
        "similarity": pytest.approx(near, abs=1e-5),
        "pixels": pytest.approx(6, abs=1e-4),
    } | {"relative": pytest.approx(0.06, abs=1e-6)}
    assert (by["nose"]["recall"], by["right_wrist"]["recall"], by["right_ear"]["recall"]) == (0, 0.5, 1)
    assert by["nose"]["pixels"] == pytest.approx(80, abs=1e-3)
    assert (by["left_ear"]["labels"], by["left_ear"]["recall"], by["left_ear"]["pixels"]) == (0, -1, -1)
