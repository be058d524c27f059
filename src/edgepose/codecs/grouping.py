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
    heat: NDArray[np.float32], tags: TagMaps, count: int = 30, threshold: float = 0.1, kernel: int = 5
) -> list[Peaks]:
    """The `count` highest pixels of each joint that equal the maximum of their `kernel` window and exceed `threshold`.

    heat: (J, H, W). Equal values come in raster order. `threshold` >= 0, `kernel` odd.
    """
    width = heat.shape[2]
    limit = np.float32(threshold)
    if float(limit) > threshold:  # float32 of the map against float64 of the threshold
        limit = np.nextafter(limit, np.float32(-np.inf))
    window, cells = np.ones((kernel, kernel), np.uint8), []
    for plane in heat:
        cell = np.flatnonzero(plane > limit)
        if len(cell):  # only these rows can hold a peak, and what lies around them is lower
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
        for row, key in enumerate(peak.tags[:, 0].tolist()):
            person = owner[row]
            if person < 0:
                person = known.setdefault(key, len(known))
                tag_sum[person] = tag_count[person] = 0
            people[person, joint] = records[row]
            tag_sum[person] += peak.tags[row]
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


def refined(people: NDArray[np.float32], heat: NDArray[np.float32], tags: TagMaps) -> NDArray[np.float32]:
    """People (P, J, 3) with missing joints looked up by tag.

    A missing joint goes where heat - round(distance to the person's mean tag) is highest (first in raster order), with
    the half and quarter pixel of `adjusted`; it stays missing where the heat there is not positive.
    """
    out = people.copy()
    seen = people[..., 2] > 0
    person, joint = np.nonzero(seen)
    x, y = people[person, joint, :2].astype(np.int64).T
    found = np.zeros((*seen.shape, len(tags.maps)), np.float32)
    found[person, joint] = tags.at(joint, y, x)
    mean = found.sum(1) / seen.sum(1, keepdims=True, dtype=np.float32)
    sought = np.zeros_like(people)
    for joint in np.flatnonzero(~seen.all(0)):
        rows = np.flatnonzero(~seen[:, joint])
        cell = best_cells(heat[joint], tags, int(joint), mean[rows])
        y, x = np.divmod(cell, heat.shape[2])
        value = heat[joint, y, x]
        sought[rows, joint] = np.stack([x, y, np.where(value > 0, value, 0)], 1)
    return np.where(sought[..., 2:] > 0, adjusted(sought, heat), out)


def best_cells(heat: NDArray[np.float32], tags: TagMaps, joint: int, means: NDArray[np.float32]) -> NDArray[np.int64]:
    """First flat index of the maximum of heat - round(|tag - mean|) over all pixels of one joint, for each mean (m, T).

    Exact branch and bound over blocks: the highest heat of a block and the range of the tags it is interpolated from
    bound what it can hold, so few blocks are ever computed.
    """
    h, w = heat.shape
    if h % BLOCK or w % BLOCK:
        heat = np.pad(heat, ((0, -h % BLOCK), (0, -w % BLOCK)), constant_values=-np.inf)
    grid = heat.reshape(heat.shape[0] // BLOCK, BLOCK, heat.shape[1] // BLOCK, BLOCK)
    low, high = (r.reshape(len(r), 1, -1) for r in tags.ranges(joint))
    mean = means.T[:, :, None]  # (T, m, 1)
    gap = np.maximum(np.maximum(low - mean, mean - high), 0)
    slack = 1e-5 * (np.abs(mean) + np.maximum(np.abs(low), np.abs(high))).max(0)  # interpolation rounds
    bound = grid.max(1).max(2).ravel() - np.rint(np.maximum(np.sqrt((gap * gap).sum(0)) - slack, 0))
    best = np.full(len(means), -np.inf, np.float32)
    cells = np.full(len(means), np.iinfo(np.int64).max)
    for step in range(4):
        person, block = np.nonzero(bound >= best[:, None]) if step else (np.arange(len(means)), bound.argmax(1))
        if step < 3 and len(person) > 8 * len(means):  # too many left: first the most promising one of each person
            person = np.unique(person)
            block = bound[person].argmax(1)
        for i in range(0, len(person), 4096):
            p, (row, col) = person[i : i + 4096], np.divmod(block[i : i + 4096], grid.shape[2])
            score = _scores(grid, tags, joint, means, p, row, col)
            at = score.argmax(1)
            value = score[np.arange(len(p)), at]
            cell = (row * BLOCK + at // BLOCK) * w + col * BLOCK + at % BLOCK
            order = np.lexsort((-cell, value, p))
            order = order[np.append(p[order][1:] != p[order][:-1], True)]  # the last of each person is its best
            p, value, cell = p[order], value[order], cell[order]
            better = (value > best[p]) | ((value == best[p]) & (cell < cells[p]))
            best[p[better]], cells[p[better]] = value[better], cell[better]
        bound[person, block] = -np.inf
    return cells


def _scores(grid, tags: TagMaps, joint: int, means, person, row, col) -> NDArray[np.float32]:
    """heat - round(|tag - mean|) in block (`row`, `col`) for the mean of `person`, each (n,): (n, BLOCK * BLOCK)."""
    used, where = np.unique(row * grid.shape[2] + col, return_inverse=True)
    r, c = np.divmod(used, grid.shape[2])
    apart = tags.blocks(tags.patches(joint, r, c), r, c)[:, where] - means[person].T[:, :, None, None]
    apart *= apart
    far = apart.sum(0)
    np.rint(np.sqrt(far, out=far), out=far)
    return np.subtract(grid[row, :, col], far, out=far).reshape(len(row), -1)


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
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Heatmaps and tags of one picture -> people (P, J, 3) of x, y, value in map pixels, and their scores (P,).

    heat: (J, H, W). tags: (J, H, W, T) with T tag maps per joint, or `TagMaps`. A missing joint is (0, 0, 0). A score
    is the mean value over all J joints before `refine`. See `find_peaks`, `match`, `adjusted` and `refined`.
    """
    heat = np.ascontiguousarray(heat, np.float32)
    tags = tags if isinstance(tags, TagMaps) else TagMaps.dense(tags)
    peaks = find_peaks(heat, tags, max_people, threshold, nms_kernel)
    people = match(peaks, max_people, tag_threshold, use_detection_val, ignore_too_much)
    people = adjusted(people, heat) if adjust else people
    scores = people[..., 2].mean(1)
    return (refined(people, heat, tags) if refine and len(people) else people), scores
