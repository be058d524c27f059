"""PCKh and PCK against their definitions, written out joint by joint, and on cases small enough to count by hand."""

from dataclasses import replace

import numpy as np
import pytest

from edgepose.data import Record
from edgepose.data._pck import pck, pckh
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, LSP14, MPII16


def record(i, xy, seen, skeleton, heads=None):
    n = len(xy)
    blank = lambda: np.zeros((1, 1, 3), np.uint8)  # noqa: E731
    return Record(i, f"{i}.jpg", (640, 480), blank, Poses(xy, seen, skeleton), np.ones(n, np.float32), heads=heads)


def row(i, xy, score=1.0, **more):
    return {"image_id": i, "keypoints": np.pad(xy, ((0, 0), (0, 1))).ravel().tolist(), "score": score, **more}


def scene(seed, skeleton):
    rng = np.random.default_rng(seed)
    records, results = [], []
    for i in range(30):
        n = int(rng.integers(0, 4))
        xy = np.float32(rng.uniform(0, 400, (n, 1, 2)) + rng.uniform(0, 150, (n, len(skeleton), 2)))
        seen = rng.random((n, len(skeleton))) < 0.8
        records.append(record(i, xy, seen, skeleton, rng.uniform(20, 60, n).astype(np.float32)))
        for p in rng.permutation(n):
            if rng.random() < 0.9:
                results.append(row(i, xy[p] + rng.normal(0, 12, xy[p].shape), person=int(p)))
    return records, results


def correct(records, results, unit, limit):
    """{joint: [True, False, ...]} over all labelled people that have a unit."""
    skeleton = records[0].truth.skeleton
    found = {(r["image_id"], r["person"]): np.reshape(r["keypoints"], (-1, 3))[:, :2] for r in results}
    out = {joint: [] for joint in skeleton.joints}
    for r in records:
        for p in range(len(r.truth)):
            length = unit(r, p)
            for j, joint in enumerate(skeleton.joints):
                if r.truth.scores[p, j] > 0 and length is not None:
                    pose = found.get((r.id, p))
                    near = pose is not None and np.hypot(*(pose[j] - r.truth.xy[p, j])) <= limit * length
                    out[joint].append(bool(near))
    return out


@pytest.mark.parametrize("seed", range(3))
def test_pckh_by_its_definition(seed):
    records, results = scene(seed, MPII16)
    figures = pckh(records, results)
    for limit, mark in ((0.5, ""), (0.1, "@0.1")):
        right = correct(records, results, lambda r, p: float(r.heads[p]), limit)
        for limb in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            expected = (np.mean(right[f"left_{limb}"]) + np.mean(right[f"right_{limb}"])) / 2
            assert figures[limb.capitalize() + mark] == pytest.approx(expected, abs=1e-12)
        assert figures["Head" + mark] == pytest.approx(np.mean(right["head_top"]), abs=1e-12)
        pooled = [v for joint, values in right.items() if joint not in ("pelvis", "thorax") for v in values]
        assert figures["Mean" + mark] == pytest.approx(np.mean(pooled), abs=1e-12)
    assert 0.02 < figures["Mean@0.1"] < figures["AUC"] < figures["Mean"] < 0.95


def test_area_under_the_curve():
    """Each of the 14 joints a different distance off: the curve is a staircase whose area is known."""
    skeleton = MPII16
    xy = np.random.default_rng(0).uniform(0, 100, (1, 16, 2)).astype(np.float32)
    steps = np.zeros(16)
    steps[[j for j in range(16) if j not in (6, 7)]] = np.arange(14) * 0.03 + 0.005  # between the sampled limits
    truth = record(1, xy, np.ones((1, 16)), skeleton, np.array([100.0], np.float32))
    figures = pckh([truth], [row(1, xy[0] + np.stack([steps * 100, 0 * steps], 1))])
    sampled = [np.mean([t * 0.01 >= s for s in np.arange(14) * 0.03 + 0.005]) for t in range(51)]
    assert figures["AUC"] == pytest.approx((sum(sampled) - sampled[0] / 2 - sampled[-1] / 2) / 50, abs=1e-9)
    assert figures["AUC"] == pytest.approx(1 - np.mean(np.arange(14) * 0.03 + 0.005) / 0.5, abs=1e-3)


def test_by_hand():
    """One person, head 20 px: a wrist 10 px off is right, 10.1 px off is wrong; the pelvis never counts."""
    xy = np.float32(np.arange(32).reshape(1, 16, 2) * 7)
    truth = record(1, xy, np.ones((1, 16)), MPII16, np.float32([20]))
    guess = xy[0].astype(float)
    guess[MPII16.index["left_wrist"], 0] += 10
    guess[MPII16.index["right_wrist"], 1] -= 10.1
    guess[MPII16.index["pelvis"]] += 500
    figures = pckh([truth], [row(1, guess)])
    assert figures["Wrist"] == 0.5 and figures["Head"] == 1
    assert figures["Mean"] == pytest.approx(13 / 14) and figures["Mean@0.1"] == pytest.approx(12 / 14)


def test_truth_scores_one_and_nobody_zero():
    records, _ = scene(4, MPII16)
    perfect = [row(r.id, r.truth.xy[p], person=p) for r in records for p in range(len(r.truth))]
    assert set(pckh(records, perfect).values()) == {1.0}
    assert set(pckh(records, []).values()) == {0.0}


def test_rows_without_a_person_go_to_the_best_overlap():
    """Three rows for two people, the surest of a stranger; the order must not matter."""
    xy = np.random.default_rng(1).uniform(0, 60, (2, 16, 2)).astype(np.float32)
    xy[1] += [20, 0]
    truth = record(1, xy, np.ones((2, 16)), MPII16, np.float32([30, 30]))
    rows = [row(1, xy[1] + 1, 0.1), row(1, xy[0] + 1, 0.2), row(1, xy[0] + 900, 0.9)]
    assert all(pckh([truth], [rows[i] for i in order])["Mean"] == 1 for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)))
    swapped = [row(1, xy[0], person=1), row(1, xy[1], person=0)]
    assert pckh([truth], swapped)["Mean"] < 0.9


def test_one_prediction_serves_one_person():
    xy = np.random.default_rng(1).uniform(0, 60, (2, 16, 2)).astype(np.float32)
    xy[1] = xy[0]
    truth = record(1, xy, np.ones((2, 16)), MPII16, np.float32([30, 30]))
    assert pckh([truth], [row(1, xy[0])])["Mean"] == 0.5


@pytest.mark.parametrize(("skeleton", "head"), [(LSP14, {"neck", "head_top"}), (COCO17, {"nose"})])
@pytest.mark.parametrize("alpha", [0.2, 0.1])
def test_pck_by_its_definition(skeleton, head, alpha):
    records, results = scene(5, skeleton)
    head = head | {j for j in skeleton.joints if j.endswith(("eye", "ear"))}

    def torso(r, p):
        for a, b in (("left_shoulder", "right_hip"), ("right_shoulder", "left_hip")):
            i, j = skeleton.index[a], skeleton.index[b]
            if r.truth.scores[p, i] > 0 and r.truth.scores[p, j] > 0:
                return float(np.hypot(*(r.truth.xy[p, i] - r.truth.xy[p, j]).astype(float)))
        return None

    right = correct(records, results, torso, alpha)
    figures = pck(records, results, alpha)
    assert figures["Head"] == pytest.approx(np.mean([v for j in head for v in right[j]]), abs=1e-12)
    for limb in ("shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
        pooled = right[f"left_{limb}"] + right[f"right_{limb}"]
        assert figures[limb.capitalize()] == pytest.approx(np.mean(pooled), abs=1e-12)
    assert figures["Mean"] == pytest.approx(np.mean([v for values in right.values() for v in values]), abs=1e-12)
    assert 0.05 < figures["Mean"] < 0.95


def test_nothing_labelled_is_minus_one():
    truth = record(1, np.ones((1, 16, 2), np.float32), np.zeros((1, 16)), MPII16, np.float32([9]))
    assert set(pckh([truth], []).values()) == {-1.0}
    assert set(pck([replace(truth, heads=None)], []).values()) == {-1.0}


def test_complaints():
    records, results = scene(0, MPII16)
    person = next(r for r in records if len(r.truth) == 1)
    good = row(person.id, person.truth.xy[0], person=0)
    with pytest.raises(ValueError, match="twice"):
        pckh(records, [good, good])
    with pytest.raises(ValueError, match="1 labelled people"):
        pckh(records, [{**good, "person": 3}])
    with pytest.raises(ValueError, match="head size"):
        pckh([replace(r, heads=None) for r in records], results)
    with pytest.raises(ValueError, match="no photograph"):
        pck([], [])
