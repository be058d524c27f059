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
GROUP = 4  # side of a group of blocks, in blocks
CHUNK = 4096  # blocks computed at once
FEW = 512  # blocks that are computed sooner than sorted out
NOWHERE = np.iinfo(np.int64).max  # a cell not found yet
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
    rows = np.any(~((_maxima(heat) if top is None else top) <= limit), axis=2)
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


def best_cells(
    heat: NDArray[np.float32],
    tags: TagMaps,
    joint: NDArray[np.int64],
    means: NDArray[np.float32],
    top: NDArray[np.float32] | None = None,
) -> NDArray[np.int64]:
    """First flat index of the maximum of heat - round(|tag - mean|) over the map of `joint` (n,), for `means` (n, T).

    heat: (J, H, W). top: `block_maxima` of each map. Exact branch and bound over blocks and groups of blocks: their
    highest heat and the range of the tags they are interpolated from bound what they can hold, so few pixels are ever
    computed. 0 where all are broken.
    """
    width = heat.shape[2]
    heat = _padded(heat)
    used, at = np.unique(joint, return_inverse=True)
    top = (_maxima(heat) if top is None else top)[used]
    (low, high), across = tags.ranges(used), -(-heat.shape[2] // BLOCK // GROUP)
    slack = 1e-5 * np.maximum(np.abs(low), np.abs(high))  # interpolation rounds
    top, low, high = _grouped(top, -np.inf), _grouped(low - slack, 0), _grouped(high + slack, 0)
    wide = np.fmax.reduce(top, 2)[at], np.fmin.reduce(low, 3)[:, at], np.fmax.reduce(high, 3)[:, at]
    most, least = _limits(*wide, means)
    first = most.argmax(1)
    _, inner = _limits(top[at, first], low[:, at, first], high[:, at, first], means)
    best = np.fmax(np.fmax(np.fmax.reduce(least, 1), np.fmax.reduce(inner, 1)), np.finfo(np.float32).min)
    cells = np.full(len(joint), NOWHERE)
    pairs, groups = np.nonzero(most >= best[:, None])
    for i in range(0, len(pairs), CHUNK):
        pair, group = pairs[i : i + CHUNK], groups[i : i + CHUNK]
        plane = at[pair]
        most, least = _limits(top[plane, group], low[:, plane, group], high[:, plane, group], means[pair])
        _raise(best, cells, pair, np.fmax.reduce(least, 1))
        k, inside = np.nonzero(most >= best[pair, None])
        pair, most, hope = pair[k], most[k, inside], most[k, inside] + least[k, inside]
        row, col = group[k] // across * GROUP + inside // GROUP, group[k] % across * GROUP + inside % GROUP
        for final in (False, False, False, False, True):  # the most promising block of each first
            may = (most > best[pair]) | (most == best[pair]) & ((row * width + col) * BLOCK < cells[pair])
            pair, row, col, most, hope = pair[may], row[may], col[may], most[may], hope[may]
            if not len(pair):
                break
            lead = np.full(len(joint), -np.inf, np.float32)
            np.maximum.at(lead, pair, hope)
            now = (hope == lead[pair]) | final | (len(pair) < FEW)
            _look(heat, tags, joint, means, pair[now], row[now], col[now], best, cells, width)
            pair, row, col, most, hope = pair[~now], row[~now], col[~now], most[~now], hope[~now]
    return np.where(cells < NOWHERE, cells, 0)


def _look(heat, tags: TagMaps, joint, means, pair, row, col, best, cells, width: int) -> None:
    """Compute the pixels of block (`row`, `col`) for each `pair`, each (n,), and update `best` and `cells` in place."""
    grid = heat.reshape(len(heat), heat.shape[1] // BLOCK, BLOCK, heat.shape[2] // BLOCK, BLOCK)
    for i in range(0, len(pair), CHUNK):
        p, r, c = pair[i : i + CHUNK], row[i : i + CHUNK], col[i : i + CHUNK]
        plane = joint[p]
        apart = tags.blocks(tags.patches(plane, r, c), r, c) - means[p].T[:, :, None, None]
        apart *= apart
        far = apart.sum(0)
        np.rint(np.sqrt(far, out=far), out=far)
        score = np.subtract(grid[plane, r, :, c], far, out=far).reshape(len(p), -1)
        inside = score.argmax(1)
        value = score[np.arange(len(p)), inside]
        cell = (r * BLOCK + inside // BLOCK) * width + c * BLOCK + inside % BLOCK
        _raise(best, cells, p, value)
        hit = value == best[p]
        np.minimum.at(cells, p[hit], cell[hit])


def _raise(best, cells, pair, value) -> None:
    """Raise `best` of each `pair` (n,) to `value` (n,), in place; cells that held less are nowhere again."""
    before = best.copy()
    np.fmax.at(best, pair, value)
    cells[best > before] = NOWHERE


def _padded(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps whose sides are multiples of BLOCK, -inf past the edge."""
    pad = [(0, 0)] * (heat.ndim - 2) + [(0, -heat.shape[-2] % BLOCK), (0, -heat.shape[-1] % BLOCK)]
    return np.pad(heat, pad, constant_values=-np.inf) if np.any(pad) else heat


def row_maxima(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Highest value of each column in each BLOCK rows of a plane (H, W): (H / BLOCK, W), padded to whole blocks."""
    if plane.shape[0] % BLOCK or plane.shape[1] % BLOCK:
        plane = _padded(plane)
    return np.maximum.reduce(plane.reshape(-1, BLOCK, plane.shape[1]), 1)  # rows first: contiguous


def block_maxima(rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Highest value of each block, (..., W / BLOCK), from `row_maxima` (..., W)."""
    for _ in range(BLOCK.bit_length() - 1):  # BLOCK is a power of two
        rows = np.maximum(rows[..., ::2], rows[..., 1::2])
    return rows


def _maxima(heat: NDArray[np.float32]) -> NDArray[np.float32]:
    """`block_maxima` of each map of heat (J, H, W)."""
    return block_maxima(np.stack([row_maxima(plane) for plane in heat]))


def _grouped(blocks: NDArray, fill: float) -> NDArray:
    """Values of blocks (..., h, w) as (..., groups, GROUP * GROUP), `fill` past the edge."""
    *lead, h, w = blocks.shape
    if h % GROUP or w % GROUP:
        pad = [(0, 0)] * len(lead) + [(0, -h % GROUP), (0, -w % GROUP)]
        blocks = np.pad(blocks, pad, constant_values=fill)
        h, w = blocks.shape[-2:]
    split = np.moveaxis(blocks.reshape(*lead, h // GROUP, GROUP, w // GROUP, GROUP), (-3, -1), (0, 1))
    return np.moveaxis(split.reshape(GROUP * GROUP, *lead, -1), 0, -1)  # in memory last to first: quick to reduce


def _limits(top, low, high, means) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Bounds (n, k) above and below of the maximum of heat - round(|tag - mean|).

    top: (n, k) highest heat. low, high: (T, n, k) range of the tags. means: (n, T).
    """
    mean = means.T[:, :, None]
    slack = 1e-5 * np.abs(mean)
    after, before = low - (mean + slack), (mean - slack) - high  # of the range after the mean, of the mean after it
    near, far = np.maximum(np.maximum(after, before), 0), np.minimum(after, before)
    return top - np.rint(np.sqrt((near * near).sum(0))), top - np.rint(np.sqrt((far * far).sum(0)))


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
    top = _maxima(heat) if top is None else top
    peaks = find_peaks(heat, tags, max_people, threshold, nms_kernel, top)
    people = match(peaks, max_people, tag_threshold, use_detection_val, ignore_too_much)
    people = adjusted(people, heat) if adjust else people
    scores = people[..., 2].mean(1)
    return (refined(people, heat, tags, top) if refine and len(people) else people), scores
