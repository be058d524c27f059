"""Tags -> people: associative-embedding grouping (Newell et al., NeurIPS 2017), as HigherHRNet and LitePose run it.

Peaks of every joint's heatmap are matched to people by the distance of their tags; then peaks move a quarter pixel
toward the higher neighbour (`adjusted`), and joints without a peak are looked up where heat is high and the tag is the
person's (`refined`). Ties, rounding and float32 follow the reference implementation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs.assignment import assign
from edgepose.codecs.blocks import best_cells, maxima
from edgepose.codecs.tagmaps import BLOCK, TagMaps

ORDER = (0, 1, 2, 3, 4, 5, 6, 11, 12, 7, 8, 9, 10, 13, 14, 15, 16)  # COCO: face, shoulders, hips, elbows, wrists, legs
FAR = 1e10  # cost of the columns that let surplus peaks stay unmatched


@dataclass(frozen=True, eq=False)
class Peaks:
    """Peaks of one joint, highest first: `x`, `y` (n,) int64 pixels, `value` (n,) float32, `tags` (n, T) float32."""

    x: NDArray[np.int64]
    y: NDArray[np.int64]
    value: NDArray[np.float32]
    tags: NDArray[np.float32]


def find_peaks(
    heat: NDArray[np.float32],
    tags: TagMaps,
    count: int = 30,
    threshold: float = 0.1,
    kernel: int = 5,
    top: NDArray[np.float32] | None = None,
) -> list[Peaks]:
    """The `count` highest pixels of each joint that equal the maximum of their `kernel` window and exceed `threshold`.

    heat: (J, H, W). Equal values come in raster order. `threshold` >= 0, `kernel` odd. top: `block_maxima` of each map.
    """
    width = heat.shape[2]
    limit = np.float32(threshold)
    if float(limit) > threshold:  # float32 of the map against float64 of the threshold
        limit = np.nextafter(limit, np.float32(-np.inf))
    window, cells = np.ones((kernel, kernel), np.uint8), []
    rows = np.any(~((maxima(heat) if top is None else top) <= limit), axis=2)
    for plane, bands in zip(heat, rows, strict=True):
        cell = np.flatnonzero(bands)  # of blocks; only these can hold a peak
        if len(cell):
            begin = cell[0] * BLOCK
            cell = begin * width + np.flatnonzero(plane[begin : (cell[-1] + 1) * BLOCK] > limit)
        if len(cell):  # what lies around these rows is lower
            first, last = cell[0] // width, cell[-1] // width + 1
            highest = cv2.dilate(plane[first:last], window).ravel()
            value = plane.ravel()[cell]
            cell = cell[value == highest[cell - first * width]]
            value = plane.ravel()[cell]
            cell = cell[np.argsort(-value, kind="stable")[:count]]
        cells.append(cell)
    joint = np.repeat(np.arange(len(heat)), [len(c) for c in cells])
    y, x = np.divmod(np.concatenate(cells), width)
    value, tag = heat[joint, y, x], tags.at(joint, y, x)
    ends = np.cumsum([0] + [len(c) for c in cells])
    return [Peaks(x[a:b], y[a:b], value[a:b], tag[a:b]) for a, b in pairwise(ends)]


def match(
    peaks: Sequence[Peaks],
    max_people: int = 30,
    tag_threshold: float = 1.0,
    use_detection_val: bool = True,
    ignore_too_much: bool = False,
) -> NDArray[np.float32]:
    """People (P, J, 3) of x, y, value, zeros where a joint is missing, in the order in which they were opened.

    Joint by joint, peaks are assigned to the first `max_people` people by round(tag distance) * 100 - value (the plain
    distance without `use_detection_val`); a pair farther than `tag_threshold` opens a person instead. People are known
    by their first tag value, so a peak that would open a person with a known value joins it and restarts its mean tag.
    With `ignore_too_much`, joints met after `max_people` people are left out.
    """
    joints = len(peaks)
    most = max(1, sum(len(p.x) for p in peaks))
    people = np.zeros((most, joints, 3), np.float32)
    tag_sum, tag_count = np.zeros((most, peaks[0].tags.shape[1]), np.float32), np.zeros((most, 1), np.float32)
    known: dict[float, int] = {}
    for joint in (*(k for k in ORDER if k < joints), *range(len(ORDER), joints)):
        peak = peaks[joint]
        n, open_people = len(peak.x), min(len(known), max_people)
        if n == 0 or (ignore_too_much and open_people == max_people):
            continue
        owner = [-1] * n
        if open_people:
            mean = tag_sum[:open_people] / tag_count[:open_people]
            apart = peak.tags[:, None].astype(np.float64) - mean
            distance = np.sqrt((apart * apart).sum(2))
            distance[~(distance < 1e6)] = 1e6  # a broken map is nobody's
            cost = np.rint(distance) * 100 - peak.value[:, None] if use_detection_val else distance
            surplus = np.full((n, max(0, n - open_people)), FAR)
            for row, col in enumerate(assign(np.concatenate([cost, surplus], 1))):
                if col < open_people and distance[row, col] < tag_threshold:
                    owner[row] = col
        records = np.stack([peak.x, peak.y, peak.value], 1)
        fresh, known_before = [row for row in range(n) if owner[row] < 0], len(known)
        for row in fresh:
            owner[row] = known.setdefault(float(peak.tags[row, 0]), len(known))
        apart = len(known) - known_before == len(fresh)  # all are different people, so all at once
        for rows in [slice(None)] if apart else range(n):
            person = owner[rows]
            if not apart and rows in fresh:
                tag_sum[person] = tag_count[person] = 0
            people[person, joint] = records[rows]
            tag_sum[person] += peak.tags[rows]
            tag_count[person] += 1
    return people[: len(known)]


def adjusted(people: NDArray[np.float32], heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """People (P, J, 3) with found joints moved a quarter pixel toward the higher neighbour, then by + 0.5."""
    out = people.copy()
    person, joint = np.nonzero(people[..., 2] > 0)
    x, y = people[person, joint, :2].astype(np.int64).T
    h, w = heat.shape[1:]
    right = heat[joint, y, np.minimum(x + 1, w - 1)] > heat[joint, y, np.maximum(x - 1, 0)]
    below = heat[joint, np.minimum(y + 1, h - 1), x] > heat[joint, np.maximum(y - 1, 0), x]
    out[person, joint, 0] += np.where(right, 0.75, 0.25)
    out[person, joint, 1] += np.where(below, 0.75, 0.25)
    return out


def refined(
    people: NDArray[np.float32], heat: NDArray[np.float32], tags: TagMaps, top: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """People (P, J, 3) with missing joints looked up by tag. top: `block_maxima` of each map.

    A missing joint goes where heat - round(distance to the person's mean tag) is highest (first in raster order), with
    the half and quarter pixel of `adjusted`; it stays missing where the heat there is not positive.
    """
    seen = people[..., 2] > 0
    if seen.all():
        return people.copy()
    person, joint = np.nonzero(seen)
    x, y = people[person, joint, :2].astype(np.int64).T
    found = np.zeros((*seen.shape, len(tags.maps)), np.float32)
    found[person, joint] = tags.at(joint, y, x)
    mean = found.sum(1) / seen.sum(1, keepdims=True, dtype=np.float32)
    person, joint = np.nonzero(~seen)
    y, x = np.divmod(best_cells(heat, tags, joint, mean[person], top), heat.shape[2])
    value = heat[joint, y, x]
    sought = np.zeros_like(people)
    sought[person, joint] = np.stack([x, y, np.where(value > 0, value, 0)], 1)
    return np.where(sought[..., 2:] > 0, adjusted(sought, heat), people)


def group(
    heat: NDArray[np.float32],
    tags: NDArray[np.float32] | TagMaps,
    *,
    max_people: int = 30,
    threshold: float = 0.1,
    tag_threshold: float = 1.0,
    nms_kernel: int = 5,
    use_detection_val: bool = True,
    ignore_too_much: bool = False,
    adjust: bool = True,
    refine: bool = True,
    top: NDArray[np.float32] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Heatmaps and tags of one picture -> people (P, J, 3) of x, y, value in map pixels, and their scores (P,).

    heat: (J, H, W). tags: (J, H, W, T) with T tag maps per joint, or `TagMaps`. top: `block_maxima` of each map, if at
    hand. A missing joint is (0, 0, 0). A score is the mean value over all J joints before `refine`. See `find_peaks`,
    `match`, `adjusted` and `refined`.
    """
    heat = np.ascontiguousarray(heat, np.float32)
    tags = tags if isinstance(tags, TagMaps) else TagMaps.dense(tags)
    top = maxima(heat) if top is None else top
    peaks = find_peaks(heat, tags, max_people, threshold, nms_kernel, top)
    people = match(peaks, max_people, tag_threshold, use_detection_val, ignore_too_much)
    people = adjusted(people, heat) if adjust else people
    scores = people[..., 2].mean(1)
    return (refined(people, heat, tags, top) if refine and len(people) else people), scores
