"""Average precision against pycocotools on random crowds, and CrowdPose's figures against a small reference."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from _scene import labels, scene

pytest.importorskip("faster_coco_eval")

from edgepose.data._oks import CROWD_NAMES, NAMES, average_precision
from edgepose.skeleton import CROWDPOSE14


def official(records, results):
    """pycocotools' ten figures."""
    coco, judge = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    with contextlib.redirect_stdout(io.StringIO()):
        truth = coco.COCO()
        truth.dataset = labels(records)
        truth.createIndex()
        scorer = judge.COCOeval(truth, truth.loadRes([dict(r) for r in results]), "keypoints")
        scorer.evaluate()
        scorer.accumulate()
        scorer.summarize()
    return dict(zip(NAMES, scorer.stats.tolist(), strict=True))


@pytest.mark.parametrize("seed", range(12))
def test_the_ten_figures_are_the_official_ones(seed):
    records, results = scene(seed)
    expected = official(records, results)
    assert average_precision(records, results) == pytest.approx(expected, abs=1e-9)
    assert 0.01 < expected["AP"] < 0.95


def test_ignored_people_matter_in_these_scenes():
    """Else the comparison above would say nothing about them."""
    records, results = scene(3)
    bare = [replace(r, others=()) for r in records]
    assert average_precision(bare, results)["AP"] < average_precision(records, results)["AP"] - 0.005


def test_a_detection_in_a_crowd_costs_nothing():
    records, _ = scene(0, others=False)
    person = next(r for r in records if len(r.truth) == 1)
    row = lambda xy, s: {"image_id": person.id, "score": s, "keypoints": np.pad(xy, ((0, 0), (0, 1))).ravel().tolist()}  # noqa: E731
    truth = person.truth.xy[0]
    rows = [row(truth, 0.5), row(truth + 3000, 0.9)]
    crowd = {"bbox": [3000.0, 3000.0, 600.0, 600.0], "area": 9000.0, "iscrowd": 1}
    assert average_precision([person], rows)["AP"] == pytest.approx(0.5)
    assert average_precision([replace(person, others=(crowd,))], rows)["AP"] == pytest.approx(1.0)


def test_results_keep_what_they_hold():
    records, results = scene(1)
    before = [dict(row) for row in results]
    average_precision(records, results)
    assert results == before


# ── CrowdPose: the definition written out, one threshold at a time ───────────────────────────────────────────────────


def similarity(r, p, keypoints):
    """Of a detection and person `p` of a record; for a person without labels, of the doubled box."""
    seen, (x0, y0, x1, y1) = r.truth.scores[p] > 0, r.truth.boxes[p].astype(float)
    xy, scale = np.reshape(keypoints, (-1, 3))[:, :2], 0.53 * (x1 - x0) * (y1 - y0)
    away = xy - r.truth.xy[p]
    if not seen.any():
        w, h, seen = x1 - x0, y1 - y0, ~seen
        away = np.maximum([x0 - w, y0 - h] - xy, 0) + np.maximum(xy - [x1 + w, y1 + h], 0)
    return np.exp(-(away**2).sum(1) / (2 * scale * (2 * np.array(CROWDPOSE14.sigmas)) ** 2))[seen].mean()


def reference_curve(records, results, threshold):
    """Precision at the 101 recalls and the highest recall, by the letter of CrowdPose's evaluation."""
    hits, people = [], 0
    for r in sorted(records, key=lambda r: r.id):
        counted = [p for p in range(len(r.truth)) if r.truth.scores[p].any()]
        rest = [p for p in range(len(r.truth)) if p not in counted]
        people += len(counted)
        mine = sorted((row for row in results if row["image_id"] == r.id), key=lambda row: -row["score"])[:20]
        for row in mine:
            near = {p: similarity(r, p, row["keypoints"]) for p in [*counted, *rest]}
            for group in (counted, rest):
                best = max((p for p in group if near[p] >= threshold), key=near.__getitem__, default=None)
                if best is not None:
                    group.remove(best)
                    if group is counted:
                        hits.append((row["score"], True))
                    break
            else:
                hits.append((row["score"], False))
    hits = [hit for _, hit in sorted(hits, key=lambda h: -h[0])]
    if not people:
        return [], None
    right = np.cumsum(hits)
    precision, recall = right / np.arange(1, len(hits) + 1), right / people
    curve = [max(precision[recall >= level - 1e-12], default=0.0) for level in np.linspace(0, 1, 101)]
    return curve, recall[-1] if len(recall) else 0.0


def reference(records, results):
    levels = np.linspace(0.5, 0.95, 10)
    parts = [records] + [
        [r for r in records if low <= r.crowd < high] for low, high in ((-1, 0.2), (0.2, 0.8), (0.8, 9))
    ]
    every = [[reference_curve(part, results_in(results, part), t) for t in levels] for part in parts]
    ap = [float(np.mean([curve for curve, _ in part])) if part[0][0] else -1.0 for part in every]
    whole = every[0]
    ar = [recall for _, recall in whole]
    at = lambda i: float(np.mean(whole[i][0]))  # noqa: E731
    return dict(zip(CROWD_NAMES, [ap[0], at(0), at(5), np.mean(ar), ar[0], ar[5], *ap[1:]], strict=True))


def results_in(results, part):
    ids = {r.id for r in part}
    return [row for row in results if row["image_id"] in ids]


@pytest.mark.parametrize("seed", [0, 1, 2, 4])
def test_crowdpose_by_its_definition(seed):
    records, results = scene(seed, 14, CROWDPOSE14, others=False)
    records = [replace(r, areas=r.areas * 3) for r in records]  # CrowdPose takes the box, not this
    expected = reference(records, results)
    assert average_precision(records, results, crowd=True) == pytest.approx(expected, abs=1e-9)
    assert len({round(v, 6) for v in expected.values()}) >= 7


def test_limits_of_the_crowd_index():
    """A photograph on a limit belongs to the more crowded part, as in the official code; a part may be empty."""
    record = scene(0, 12, CROWDPOSE14, others=False)[0][3]
    assert len(record.truth)
    flat = np.pad(record.truth.xy, ((0, 0), (0, 0), (0, 1))).reshape(len(record.truth), -1).tolist()
    rows = [{"image_id": record.id, "keypoints": k, "score": 1.0} for k in flat]
    for index, name in ((0.19, "AP_easy"), (0.2, "AP_medium"), (0.79, "AP_medium"), (0.8, "AP_hard"), (1.0, "AP_hard")):
        figures = average_precision([replace(record, crowd=index)], rows, crowd=True)
        assert {k for k in CROWD_NAMES[6:] if figures[k] >= 0} == {name}


@pytest.mark.parametrize(
    ("row", "complaint"),
    [
        ({"image_id": 5, "keypoints": [0.0] * 51, "score": 1.0}, "image_id 5"),
        ({"image_id": 0, "keypoints": [0.0] * 42, "score": 1.0}, "42 numbers"),
        ({"image_id": 0, "keypoints": [0.0] * 50 + [float("nan")], "score": 1.0}, "finite"),
        ({"image_id": 0, "keypoints": [0.0] * 50 + ["x"], "score": 1.0}, "finite"),
        ({"image_id": 0, "keypoints": [0.0] * 51}, "score"),
        ({"image_id": [0], "keypoints": [0.0] * 51, "score": 1.0}, "image_id"),
        ({"image_id": 0, "keypoints": 5, "score": 1.0}, "1 numbers"),
        ([1, 2], "row"),
    ],
)
def test_rows_that_do_not_fit(row, complaint):
    records, _ = scene(0)
    with pytest.raises(ValueError, match=complaint):
        average_precision(records, [row])


def test_crowdpose_needs_boxes():
    records = [replace(r, truth=replace(r.truth, boxes=None)) for r in scene(0, 4, CROWDPOSE14)[0]]
    with pytest.raises(ValueError, match="boxes"):
        average_precision(records, [], crowd=True)


def test_no_photograph():
    with pytest.raises(ValueError, match="no photograph"):
        average_precision([], [])


def test_truth_of_the_115_photographs_against_pycocotools(shared: Path):
    from edgepose.data import coco

    records = coco.read(shared / "data", "train115")
    rng = np.random.default_rng(0)
    results = []
    for r in records:
        noise = rng.normal(0, 0.06, r.truth.xy.shape) * np.sqrt(r.areas)[:, None, None]
        for k, s in zip(np.pad(r.truth.xy + noise, ((0, 0), (0, 0), (0, 1))), rng.random(len(r.truth)), strict=True):
            results.append({"image_id": r.id, "category_id": 1, "keypoints": k.ravel().tolist(), "score": float(s)})
    assert average_precision(records, results) == pytest.approx(official(records, results), abs=1e-9)
