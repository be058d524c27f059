"""Detect: where people are, for networks that look at one person at a time.

A detector is any function from a picture (h, w, 3) RGB uint8 to boxes (N, 4) float32, x0, y0, x1, y1 in image pixels,
and their scores (N,). Here: the people that a bottom-up model finds, so that no other network need be installed; and
what to do with poses of which several may be of one person. Boxes from files and detection networks: `edgepose.boxes`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image
from edgepose.poses import Poses

Found = tuple[NDArray[np.float32], NDArray[np.float32]]  # boxes (N, 4) and their scores (N,)
Detector = Callable[[Image], Found]
Look = Callable[[Sequence[Image], Sequence[NDArray[np.float32]]], list[Poses]]

SURE = 0.15  # score of a joint that counts for the box around a person
MARGIN = 0.06  # of the longer side of a box, added all around: joints are not the rim of a person
FAINT = 0.1  # peaks that a bottom-up model must have to say where somebody may be: the second step sorts them out
LEAST = 0.02  # score of a person worth a second look
SAME = 0.5  # similarity of two poses from which they are one person
TWICE = 0.9  # the same for the boxes of a person detector, as in the official top-down evaluation


def two_looks(found: Sequence[Found], glance: Look, look: Look, images: Sequence[Image]) -> list[Poses]:
    """People of pictures in two looks: a `glance` at every box of `found`; then `look` at the boxes of those who are
    distinct and not all too faint. Both take all pictures with their boxes and give a pose for each box."""
    first = glance(images, [places for places, _ in found])
    first = [weighed(poses, trust) for poses, (_, trust) in zip(first, found, strict=True)]
    rows = [distinct_rows(poses) for poses in first]
    rows = [order[np.asarray(poses.person_scores)[order] >= LEAST] for poses, order in zip(first, rows, strict=True)]
    second = look(images, [boxes(poses[order]) for poses, order in zip(first, rows, strict=True)])
    trusts = [trust[order] for (_, trust), order in zip(found, rows, strict=True)]
    return [distinct(weighed(poses, trust)) for poses, trust in zip(second, trusts, strict=True)]


def one_look(look: Look, images: Sequence[Image], found: Sequence[Found]) -> list[Poses]:
    """People in the boxes that a detector `found`, with the scores it trusts them with, as COCO's top-down results are
    made: a person's score times the box's, best first, people found twice once (similarity `TWICE`)."""
    weighed = []
    for poses, (_, trust) in zip(look(images, [places for places, _ in found]), found, strict=True):
        scores = np.asarray(poses.person_scores) * np.asarray(trust)
        weighed.append(distinct(replace(poses, person_scores=scores.astype(np.float32)), TWICE))
    return weighed


def from_poses(predict: Callable[[Image], Poses], least: float = LEAST) -> Detector:
    """A detector from a model that finds poses in whole pictures: `places` of what it finds."""
    return lambda image: places(predict(image), least)


def places(poses: Poses, least: float = LEAST) -> Found:
    """`boxes` around the people with a score from `least`, and those scores."""
    scores = np.asarray(poses.person_scores, np.float32)
    return boxes(poses)[scores >= least], scores[scores >= least]


def boxes(poses: Poses, sure: float = SURE, margin: float = MARGIN) -> NDArray[np.float32]:
    """(N, 4) boxes around the joints of each person that score `sure` or more, or around all if fewer than two do."""
    out = np.zeros((len(poses), 4), np.float32)
    for row, (xy, scores) in enumerate(zip(poses.xy, poses.scores, strict=True)):
        seen = scores >= sure if (scores >= sure).sum() > 1 else scores > 0
        if seen.any():
            low, high = xy[seen].min(0), xy[seen].max(0)
            rim = margin * max(float((high - low).max()), 8.0)
            out[row] = [*(low - rim), *(high + rim)]
    return out


def distinct(poses: Poses, same: float = SAME) -> Poses:
    """People with the highest scores first, without those whose joints lie where those of a better one do."""
    return poses[distinct_rows(poses, same)]


def distinct_rows(poses: Poses, same: float = SAME) -> NDArray[np.int64]:
    """The rows of `distinct`.

    Two are the same from an object keypoint similarity of `same` on, all joints counted, at the mean of the areas that
    their joints span (0.53 of the box, the share that COCO's people fill).
    """
    scores = np.asarray(poses.person_scores)
    spans = (poses.xy.max(1) - poses.xy.min(1)).prod(1) * 0.53 if len(poses) else np.zeros(0)
    spread, kept = 2 * (2 * np.array(poses.skeleton.sigmas)) ** 2, list[int]()
    for row in np.argsort(-scores, kind="stable"):
        others = np.array(kept, int)
        area = np.maximum((spans[row] + spans[others]) / 2, 1.0)
        apart = ((poses.xy[row] - poses.xy[others]) ** 2).sum(2)
        if not (np.exp(-apart / (area[:, None] * spread)).mean(1) >= same).any():
            kept.append(int(row))
    return np.array(kept, np.int64)


def weighed(poses: Poses, trust: NDArray[np.float32]) -> Poses:
    """The same people, their score the mean of their joints' scores, which counts twice, and the detector's (N,): the
    geometric mean, so that it stays a score."""
    joints = np.maximum(poses.scores.mean(1), 0)
    return replace(poses, person_scores=np.cbrt(joints * joints * np.maximum(trust, 0)).astype(np.float32))
