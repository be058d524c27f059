"""Where heat less the distance of a tag is highest: exact branch and bound over blocks of the full-size maps."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.codecs.tagmaps import BLOCK, TagMaps

GROUP = 4  # side of a group of blocks, in blocks
CHUNK = 4096  # blocks computed at once
FEW = 512  # blocks that are computed sooner than sorted out
NOWHERE = np.iinfo(np.int64).max  # a cell not found yet


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
    top = (maxima(heat) if top is None else top)[used]
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


def maxima(heat: NDArray[np.float32]) -> NDArray[np.float32]:
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
