"""What is wrong with each joint and each detection, and the results with one kind of fault put right.

After Ronchi & Perona, "Benchmarking and error diagnosis in multi-instance pose estimation" (ICCV 2017). A detection is
of the labelled person that COCO's matching gives it at similarity 0.1. Each labelled joint of a person found is then

- good: similarity 0.85 or more;
- jitter: 0.5 to 0.85, the right joint but not quite there;
- inversion: on the mirror joint of the same person (left for right);
- swap: on the same joint, or its mirror, of another person;
- miss: on none of these.

Below 0.5 the most similar of the three decides, if it has 0.5. Joints of people without a detection are "not found".
Unlike the paper, a joint that is put right goes to its label, not to the edge of the good range.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.data import Record
from edgepose.data._match import LOOSE, Match, match_all, similarity

JOINT_KINDS = ("good", "jitter", "inversion", "swap", "miss", "not found")
FIXES = ("jitter", "inversion", "swap", "miss", "score", "double", "background", "not found")
GOOD, NEAR = 0.85, 0.5
LOST = JOINT_KINDS.index("not found")
SIZES = (("small", 0, 32**2), ("medium", 32**2, 96**2), ("large", 96**2, float("inf")))  # square pixels, COCO's limits


def classify(record: Record, found: Match) -> NDArray[np.int64]:
    """Rows of `JOINT_KINDS` (N, J) for the labelled joints of a photograph, -1 for joints without a label."""
    truth, labelled = record.truth, record.truth.scores > 0
    swap, sigmas = list(truth.skeleton.mirror), np.array(truth.skeleton.sigmas)
    kinds = np.where(labelled, LOST, -1)
    for p in range(len(truth)):
        d = found.detection(p)
        if d < 0:
            continue
        pose = found.xy[d][None]
        own = found.near[d, p]
        # the joint against the mirror joint of everybody: that joint's place, its person's size and its sigma
        mirrored = similarity(pose, truth.xy[:, swap], record.areas, sigmas[swap].tolist())[0] * labelled[:, swap]
        same = found.near[d] * labelled
        others = np.arange(len(truth)) != p
        inverted = np.where(np.array(swap) != np.arange(len(swap)), mirrored[p], 0.0)
        swapped = np.maximum(same, mirrored)[others].max(0, initial=0.0)
        wrong = np.where(inverted >= swapped, JOINT_KINDS.index("inversion"), JOINT_KINDS.index("swap"))
        wrong = np.where(np.maximum(inverted, swapped) >= NEAR, wrong, JOINT_KINDS.index("miss"))
        kind = np.where(own >= GOOD, 0, np.where(own >= NEAR, JOINT_KINDS.index("jitter"), wrong))
        kinds[p] = np.where(labelled[p], kind, -1)
    return kinds


def false_positives(found: Match) -> dict[str, NDArray[np.bool_]]:
    """Which detections (D,) are of nobody, in three kinds.

    double: near a person who has a surer detection; outranked: the same, but this one is the more similar, so that the
    fault is in the scores; background: near nobody (similarity below 0.1).
    """
    lone = (found.person < 0) & ~found.excused
    near = found.oks.max(1, initial=0.0) >= LOOSE
    better = np.zeros(len(lone), bool)
    for d in np.flatnonzero(lone & near):
        p = int(found.oks[d].argmax())
        better[d] = found.oks[d, p] > found.oks[found.detection(p), p]
    return {"double": lone & near & ~better, "outranked": lone & near & better, "background": lone & ~near}


def best_scores(record: Record, found: Match) -> NDArray[np.float64]:
    """Scores (D,) that give the highest average precision with these poses.

    The similarity to the person, people and detections being paired from the most similar pair down; 0 for the rest.
    """
    scores, oks = np.zeros(len(found.xy)), found.oks * (record.truth.scores > 0).any(1)
    while oks.size and oks.max() > 0:
        d, p = np.unravel_index(oks.argmax(), oks.shape)
        scores[d] = oks[d, p]
        oks[d], oks[:, p] = 0, 0
    return scores


def fix(
    records: Sequence[Record], found: Sequence[Match], joints: Sequence[NDArray[np.int64]], kinds: Sequence[str]
) -> list[dict[str, Any]]:
    """Results with the faults of these `kinds` (of `FIXES`) put right; `joints` is `classify` of every record.

    Joints go to their labels, `score` gives the best scores, `double` and `background` take detections away, `not
    found` adds the people with their labelled pose and the highest score of all.
    """
    top = max((float(match.scores[0]) for match in found if len(match.scores)), default=1.0)
    wanted = [JOINT_KINDS.index(k) for k in kinds if k in JOINT_KINDS]
    rows = []
    for record, match, faults in zip(records, found, joints, strict=True):
        gone = np.zeros(len(match.xy), bool)
        for kind, which in false_positives(match).items():
            gone |= which & (kind in kinds)
        xy, has = match.xy.copy(), match.person >= 0
        wrong = np.zeros(xy.shape[:2], bool)
        wrong[has] = np.isin(faults[match.person[has]], wanted)
        truth = np.zeros_like(xy)
        truth[has] = record.truth.xy[match.person[has]]
        xy[wrong] = truth[wrong]
        lost = np.flatnonzero((faults == LOST).any(1)) if "not found" in kinds else []
        xy = np.concatenate([xy[~gone], record.truth.xy[lost]])
        table = np.concatenate([xy, np.ones((*xy.shape[:2], 1))], 2).reshape(len(xy), 3 * xy.shape[1]).tolist()
        scores = [*match.scores[~gone].tolist(), *[top] * len(lost)]
        row = {"image_id": record.id, "category_id": 1}
        rows += [{**row, "keypoints": k, "score": score} for k, score in zip(table, scores, strict=True)]
    if "score" in kinds:
        right = match_all(records, rows)
        rows = [{**row, "score": 0.0} for row in rows]
        for record, match in zip(records, right, strict=True):
            for i, score in zip(match.order, best_scores(record, match), strict=True):
                rows[i]["score"] = float(score)
    return rows
