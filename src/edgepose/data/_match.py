"""Which detection is which labelled person: COCO's matching at one similarity, and what it says about each joint."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.data import Record
from edgepose.data._oks import MOST, check, ignored

LOOSE = 0.1  # similarity from which a detection is of a person at all (Ronchi & Perona, ICCV 2017)


@dataclass(frozen=True, eq=False)
class Match:
    """The D detections of one photograph, surest first, against its N labelled people.

    order: (D,) numbers of the rows. xy: (D, J, 2) image pixels. scores: (D,). near: (D, N, J) similarity of each joint,
    in 0 to 1. oks: (D, N) object keypoint similarity. person: (D,) the labelled person, -1 for none. excused: (D,) is
    of a crowd or of a person without labelled joints, and so counts neither way.
    """

    order: NDArray[np.int64]
    xy: NDArray[np.float64]
    scores: NDArray[np.float64]
    near: NDArray[np.float64]
    oks: NDArray[np.float64]
    person: NDArray[np.int64]
    excused: NDArray[np.bool_]

    def detection(self, person: int) -> int:
        """The detection of a labelled person, -1 for none."""
        rows = np.flatnonzero(self.person == person)
        return int(rows[0]) if len(rows) else -1


def match_all(records: Sequence[Record], results: Sequence[Mapping[str, Any]], threshold: float = LOOSE) -> list[Match]:
    """A `Match` for every record. `Match.order` counts in `results`."""
    check(records, results)
    mine: dict[Any, list[int]] = {r.id: [] for r in records}
    for i, row in enumerate(results):
        mine[row["image_id"]].append(i)
    return [match(r, [results[i] for i in mine[r.id]], threshold, mine[r.id]) for r in records]


def match(
    record: Record, rows: Sequence[Mapping[str, Any]], threshold: float = LOOSE, numbers: Sequence[int] | None = None
) -> Match:
    """Match as COCO does: the 20 surest detections in turn take the most similar free person above `threshold`.

    A detection that finds no such person may take one that is ignored (`Record.others`, people without labels); a crowd
    can be taken many times. `numbers` are put in `order` for the rows.
    """
    joints = len(record.truth.skeleton)
    scores = np.array([float(row["score"]) for row in rows])
    order = np.argsort(-scores, kind="stable")[:MOST]
    xy = np.array([rows[i]["keypoints"] for i in order], float).reshape(len(order), joints, 3)[..., :2]
    truth, labelled = record.truth, record.truth.scores > 0
    near = similarity(xy, truth.xy, record.areas, truth.skeleton.sigmas)
    count = labelled.sum(1)
    oks = (near * labelled).sum(2) / np.maximum(count, 1)
    rest = [_ignored(record, box, float(a), xy) for box, a in _unlabelled(record)]
    rest += [_other(record, other, xy) for other in record.others]
    crowd = [False] * (len(rest) - len(record.others)) + [bool(o.get("iscrowd")) for o in record.others]
    person, excused, gone = np.full(len(order), -1), np.zeros(len(order), bool), set()
    free = set(np.flatnonzero(count > 0).tolist())
    limit = min(threshold, 1 - 1e-10)
    for d in range(len(order)):
        best = max(sorted(free, reverse=True), key=lambda p: oks[d, p], default=-1)  # of equals the last, as COCO does
        if best >= 0 and oks[d, best] >= limit:
            person[d] = best
            free.remove(best)
            continue
        best = max((k for k in reversed(range(len(rest))) if k not in gone), key=lambda k: rest[k][d], default=-1)
        if best >= 0 and rest[best][d] >= limit:
            excused[d] = True
            if not crowd[best]:
                gone.add(best)
    rank = np.asarray(numbers if numbers is not None else range(len(rows)), int)[order]
    return Match(rank, xy, scores[order], near, oks, person, excused)


def similarity(xy: NDArray, truth: NDArray, areas: NDArray, sigmas: Sequence[float]) -> NDArray[np.float64]:
    """exp(-d^2 / (2 area (2 sigma)^2)) of joints (D, J, 2) against those of people (N, J, 2): (D, N, J)."""
    away = ((xy[:, None] - truth[None].astype(float)) ** 2).sum(-1)
    return np.exp(-away / (2 * (np.asarray(areas, float)[:, None] + np.spacing(1)) * (2 * np.array(sigmas)) ** 2))


def _unlabelled(record: Record) -> list[tuple[NDArray, float]]:
    none = np.flatnonzero((record.truth.scores > 0).sum(1) == 0)
    boxes = record.truth.boxes if record.truth.boxes is not None else np.zeros((len(record.truth), 4))
    return [(boxes[p].astype(float), float(record.areas[p])) for p in none]


def _other(record: Record, other: Mapping[str, Any], xy: NDArray) -> NDArray[np.float64]:
    fields = ignored(record, other)
    table = np.array(fields["keypoints"]).reshape(-1, 3)
    seen = table[:, 2] > 0
    if seen.any():
        sigmas = record.truth.skeleton.sigmas
        return similarity(xy, table[None, :, :2], np.array([fields["area"]]), sigmas)[:, 0, seen].mean(1)
    x, y, w, h = fields["bbox"]
    return _ignored(record, np.array([x, y, x + w, y + h]), fields["area"], xy)


def _ignored(record: Record, box: NDArray, area: float, xy: NDArray) -> NDArray[np.float64]:
    """Similarity (D,) to a person of whom only the box is known: joints in the box of three times the side have 1."""
    size = box[2:] - box[:2]
    outside = np.maximum(box[:2] - size - xy, 0) + np.maximum(xy - box[2:] - size, 0)
    scale = 2 * (area + np.spacing(1)) * (2 * np.array(record.truth.skeleton.sigmas)) ** 2
    return np.exp(-(outside**2).sum(-1) / scale).mean(-1)


def per_joint(records: Sequence[Record], results: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row a joint, over all labelled people, each with the detection matched to it at similarity 0.1.

    joint. labels: how many are labelled. recall: share with similarity 0.5 or more; joints of people not found count
    as 0. similarity: mean over the people found. pixels: median distance; relative: median distance over the person's
    scale (square root of the area); both over the people found. -1 where there is none.
    """
    labels, near, pixels, relative = [], [], [], []
    for record, found in zip(records, match_all(records, results), strict=True):
        for p in range(len(record.truth)):
            d = found.detection(p)
            seen = record.truth.scores[p] > 0
            labels.append(seen)
            away = np.linalg.norm(found.xy[d] - record.truth.xy[p], axis=-1) if d >= 0 else np.inf
            hit = seen & (d >= 0)
            near.append(np.where(hit, found.near[d, p] if d >= 0 else 0.0, np.nan))
            pixels.append(np.where(hit, away, np.nan))
            relative.append(pixels[-1] / np.sqrt(record.areas[p]))
    joints = records[0].truth.skeleton.joints
    shape = (-1, len(joints))
    seen, s, px, rel = (np.array(a, float).reshape(shape) for a in (labels, near, pixels, relative))
    rows = []
    for j, joint in enumerate(joints):
        found = np.isfinite(s[:, j])
        total, some = int(seen[:, j].sum()), bool(found.any())
        figures = {
            "recall": float((s[found, j] >= 0.5).sum() / total) if total else -1.0,
            "similarity": float(s[found, j].mean()) if some else -1.0,
            "pixels": float(np.median(px[found, j])) if some else -1.0,
            "relative": float(np.median(rel[found, j])) if some else -1.0,
        }
        rows.append({"joint": joint, "labels": total, **figures})
    return rows
