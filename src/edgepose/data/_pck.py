"""Percentage of correct keypoints: PCKh of MPII (Andriluka et al., CVPR 2014) and PCK of LSP (Yang & Ramanan, 2013).

A joint is correct when its distance to the label is at most a share of a length of that person: of the head for PCKh,
of the torso for PCK. Every labelled person is scored against one prediction, so invented people cost nothing: these are
figures for networks that are given the person. All figures are 0 to 1, and -1 where nothing is labelled.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.data import Record
from edgepose.data._oks import check

LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")
NOT_IN_MEAN = ("pelvis", "thorax")


def pckh(records: Sequence[Record], results: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """PCKh@0.5 of MPII's joint groups and `Mean`, the same at 0.1 (`Head@0.1`, ... `Mean@0.1`), and `AUC`.

    The unit is the head size `Record.heads`: 0.6 of the diagonal of the labelled head rectangle. `Head` is the joint
    `head_top` alone and a limb joint is the mean of its left and right rate, as in the evaluation of HRNet that papers
    use. `Mean` counts every labelled joint once, without pelvis and thorax. `AUC` is the area under `Mean` from 0 to
    0.5, over 0.5 (trapezoids of width 0.01). MPII's file counts pixels from 1: records and results here count from 0,
    both alike, so nothing is added. A row of `results` may say which labelled person it is of (`person`, from 0); the
    others go to the people left over, best overlapping boxes first. Who gets no row is all wrong.
    `ValueError` for rows that do not fit the records, and for records without head sizes.
    """
    for r in records:
        if r.heads is None or len(r.heads) != len(r.truth):
            raise ValueError(f"PCKh needs a head size for every person, and {r.name} has none: use MPII's own labels")
    unit = {r.id: np.asarray(r.heads, float) for r in records}
    away, labelled = _distances(records, results, unit)
    joints = records[0].truth.skeleton.joints
    figures = {}
    for limit, mark in ((0.5, ""), (0.1, "@0.1")):
        rates, _ = _rates(away, labelled, limit)
        found = {"Head": _mean(rates[j] for j, name in enumerate(joints) if name == "head_top")}
        found |= {limb.capitalize(): _mean(rates[_sides(joints, limb)]) for limb in LIMBS}
        found["Mean"] = _whole(away, labelled, joints, limit)
        figures |= {name + mark: value for name, value in found.items()}
    steps = [_whole(away, labelled, joints, limit / 100) for limit in range(51)]
    figures["AUC"] = -1.0 if steps[0] < 0 else float(np.trapezoid(steps) / 50)
    return figures


def pck(records: Sequence[Record], results: Sequence[Mapping[str, Any]], alpha: float = 0.2) -> dict[str, float]:
    """PCK of LSP's joint groups and `Mean`: right within `alpha` torso lengths.

    The torso runs from the left shoulder to the right hip of the label, or where these are not labelled from the right
    shoulder to the left hip; people with neither are left out. `Head` is every joint of the head and neck, and groups
    pool their joints. Pelvis and thorax do not count. Rows of `results` are given to people as in `pckh`.
    """
    joints = records[0].truth.skeleton.joints if records else ()
    if records and not {f"{s}_{part}" for s in ("left", "right") for part in ("shoulder", "hip")} <= {*joints}:
        raise ValueError(f"PCK needs shoulders and hips, which {records[0].truth.skeleton.name} does not have")
    away, labelled = _distances(records, results, {r.id: torso(r) for r in records})
    groups = {"Head": [j for j, name in enumerate(joints) if not name.endswith((*LIMBS, *NOT_IN_MEAN))]}
    groups |= {limb.capitalize(): _sides(joints, limb) for limb in LIMBS}
    groups["Mean"] = [j for group in groups.values() for j in group]
    right = (away <= alpha) & labelled
    total = {name: labelled[:, group].sum() for name, group in groups.items()}
    return {n: float(right[:, group].sum() / total[n]) if total[n] else -1.0 for n, group in groups.items()}


def torso(record: Record) -> NDArray[np.float64]:
    """Torso lengths (N,) in pixels, shoulder to the other side's hip; NaN where no such pair is labelled."""
    truth, index = record.truth, record.truth.skeleton.index
    length = np.full(len(truth), np.nan)
    for side, other in (("right", "left"), ("left", "right")):  # the left shoulder has the last word
        a, b = index[f"{side}_shoulder"], index[f"{other}_hip"]
        there = (truth.scores[:, a] > 0) & (truth.scores[:, b] > 0)
        length[there] = np.linalg.norm(truth.xy[there, a] - truth.xy[there, b], axis=-1)
    return length


def assign(record: Record, rows: Sequence[Mapping[str, Any]]) -> NDArray[np.float64]:
    """The predicted joints (N, J, 2) of each labelled person; infinitely far away where there is no prediction.

    Rows with a `person` are that person's; the rest go to the people left over by the overlap of the boxes around the
    joints, the best pair first. `ValueError` for a `person` that does not exist or comes twice.
    """
    people, joints = len(record.truth), len(record.truth.skeleton)
    xy, taken = np.full((people, joints, 2), np.inf), np.zeros(people, bool)
    poses = [np.asarray(row["keypoints"], float).reshape(joints, 3)[:, :2] for row in rows]
    free = []
    for row, pose in zip(rows, poses, strict=True):
        person = row.get("person")
        if person is None:
            free.append(pose)
            continue
        if not isinstance(person, int) or not 0 <= person < people or taken[person]:
            why = "comes twice" if person in range(people) else f"is not one of the {people} labelled people"
            raise ValueError(f"person {person!r} of image_id {record.id} {why}")
        xy[person], taken[person] = pose, True
    overlap = np.zeros((people, len(free)))
    for p in np.flatnonzero(~taken & (record.truth.scores > 0).any(1)):
        target = record.truth.xy[p][record.truth.scores[p] > 0]
        overlap[p] = [_overlap(target, pose) for pose in free]
    while overlap.size and overlap.max() > 0:
        p, k = np.unravel_index(overlap.argmax(), overlap.shape)
        xy[p] = free[k]
        overlap[p], overlap[:, k] = 0, 0
    return xy


def _overlap(a: NDArray, b: NDArray) -> float:
    """Intersection over union of the boxes around two sets of points, a pixel being added to each side."""
    low, high = np.maximum(a.min(0), b.min(0)), np.minimum(a.max(0), b.max(0))
    common = float(np.prod(np.maximum(high - low + 1, 0)))
    return common / float(np.prod(np.ptp(a, axis=0) + 1) + np.prod(np.ptp(b, axis=0) + 1) - common)


def _distances(
    records: Sequence[Record], results: Sequence[Mapping[str, Any]], unit: Mapping[int, NDArray]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Distances (P, J) in units of the person, and which are labelled (P, J); people without a unit are left out."""
    check(records, results)
    rows: dict[Any, list[Mapping[str, Any]]] = {r.id: [] for r in records}
    for row in results:
        rows[row["image_id"]].append(row)
    away, labelled = [], []
    for r in records:
        known = np.isfinite(unit[r.id]) & (unit[r.id] > 0)
        distance = np.linalg.norm(assign(r, rows[r.id]) - r.truth.xy, axis=-1)
        away.append(distance[known] / unit[r.id][known, None])
        labelled.append(r.truth.scores[known] > 0)
    return np.concatenate(away), np.concatenate(labelled)


def _rates(away: NDArray, labelled: NDArray, limit: float) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Share of the labels within `limit` per joint (J,), -1 where there are none, and their number (J,)."""
    count = labelled.sum(0)
    right = ((away <= limit) & labelled).sum(0)
    return np.where(count > 0, right / np.maximum(count, 1), -1.0), count


def _whole(away: NDArray, labelled: NDArray, joints: Sequence[str], limit: float) -> float:
    keep = [j for j, name in enumerate(joints) if name not in NOT_IN_MEAN]
    rates, count = _rates(away, labelled, limit)
    return float((rates * count)[keep].sum() / count[keep].sum()) if count[keep].sum() else -1.0


def _sides(joints: Sequence[str], limb: str) -> list[int]:
    return [j for j, name in enumerate(joints) if name in (f"left_{limb}", f"right_{limb}")]


def _mean(rates: Iterable[float]) -> float:
    there = [float(rate) for rate in rates if rate >= 0]
    return sum(there) / len(there) if there else -1.0
