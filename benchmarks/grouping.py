"""Tags to people: edgepose against the same steps in plain numpy and scipy, on the same maps, one thread.

    python benchmarks/grouping.py [--people 30] [--size 448] [--rounds 5] [--cpu]

The plain version works the way one would write it with scipy at hand: a maximum filter, a stable sort, vectorised tag
distances, `linear_sum_assignment`, and a whole-map argmax for each missing joint. Both must find identical people.
"""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np
import tyro
from scipy.ndimage import maximum_filter
from scipy.optimize import linear_sum_assignment

from edgepose.codecs.bottomup import mean_resized
from edgepose.codecs.grouping import ORDER, group
from edgepose.codecs.tagmaps import TagMaps


def resized(maps: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(J, h, w) bilinearly at `size` (w, h)."""
    return np.stack([mean_resized([plane], size) for plane in maps])


def maps(people: int, size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Heat (17, size / 2, size / 2) and tags (2, 17, size / 4, size / 4) of a crowd; a fifth of the joints unseen."""
    rng, quarter = np.random.default_rng(seed), size // 4
    heat = rng.normal(0, 0.01, (17, size // 2, size // 2)).astype(np.float32)
    tags = np.zeros((2, 17, quarter, quarter), np.float32)
    yy, xx = np.mgrid[: size // 2, : size // 2]
    side = int(np.ceil(people**0.5))
    ty, tx = np.mgrid[:quarter, :quarter] * side // quarter
    owner = np.minimum(ty * side + tx, people - 1)
    own = rng.normal(0, 30, (2, people))  # far apart in two dimensions: assignments without ties
    tags += own[:, None, owner] + rng.normal(0, 0.05, tags.shape)
    cell = size / 2 / side
    for person in range(people):
        seen = rng.random(17) > 0.2
        seen[0] = True  # a first joint for everybody: no assignment is tied, where solvers may differ
        for joint in np.flatnonzero(seen):
            x, y = (np.array([person % side, person // side]) + rng.uniform(0.25, 0.75, 2)) * cell
            spread = 2 * rng.uniform(1, 2.5) ** 2
            blob = rng.uniform(0.3, 1) * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / spread)
            heat[joint] = np.maximum(heat[joint], blob)
    return heat, tags


def plain(heat: np.ndarray, tags: np.ndarray) -> np.ndarray:
    """heat (J, H, W), tags (J, H, W, T) -> people (P, J, 3)."""
    joints, h, w = heat.shape
    people: dict = {}
    members: dict = {}
    kept = np.where(maximum_filter(heat, (1, 5, 5), mode="constant", cval=-np.inf) == heat, heat, 0).reshape(joints, -1)
    for k in ORDER:
        cells = np.flatnonzero(kept[k] > 0.1)
        cells = cells[np.argsort(-kept[k][cells], kind="stable")][:30]
        if not len(cells):
            continue
        y, x = np.divmod(cells, w)
        value, tag = kept[k][cells], tags[k, y, x]
        owner: list = [None] * len(cells)
        if people:
            keys = list(people)[:30]
            mean = np.stack([np.mean(members[key], 0) for key in keys])
            distance = np.linalg.norm(tag[:, None].astype(np.float64) - mean, axis=2)
            for r, c in zip(*linear_sum_assignment(np.round(distance) * 100 - value[:, None]), strict=True):
                if distance[r, c] < 1:
                    owner[r] = keys[c]
        for i, key in enumerate(owner):
            if key is None:
                key = float(tag[i, 0])
                people.setdefault(key, np.zeros((joints, 3), np.float32))
                members[key] = []
            people[key][k] = x[i], y[i], value[i]
            members[key].append(tag[i])
    out = np.array(list(people.values()), np.float32)
    mean = [np.mean([tags[k, int(r[1]), int(r[0])] for k, r in enumerate(p) if r[2] > 0], 0) for p in out]
    found = out[..., 2] > 0
    for p, k in np.argwhere(~found):
        cell = np.argmax(heat[k] - np.round(np.sqrt(((tags[k] - mean[p]) ** 2).sum(2))))
        if heat[k].flat[cell] > 0:
            out[p, k] = cell % w, cell // w, heat[k].flat[cell]
    p, k = np.nonzero(out[..., 2] > 0)
    x, y = out[p, k, :2].astype(int).T
    right = heat[k, y, np.minimum(x + 1, w - 1)] > heat[k, y, np.maximum(x - 1, 0)]
    below = heat[k, np.minimum(y + 1, h - 1), x] > heat[k, np.maximum(y - 1, 0), x]
    out[p, k, :2] += np.stack([np.where(right, 0.75, 0.25), np.where(below, 0.75, 0.25)], 1)
    return out


def main(people: int = 30, size: int = 448, rounds: int = 5, cpu: bool = False) -> None:
    """Print the median milliseconds (`cpu`: of processor time) of both, from network maps to people, refined."""
    cv2.setNumThreads(1)
    clock = time.process_time if cpu else time.perf_counter
    times: dict[str, list[float]] = {"edgepose": [], "numpy + scipy": []}
    full, half = (size, size), (size // 2, size // 2)
    for seed in range(rounds + 1):
        heat, tags = maps(people, size, seed)
        start = clock()
        ours, _ = group(resized(heat, full), TagMaps.resized(tags, [half, full]))
        middle = clock()
        dense = np.stack([resized(resized(t, half), full) for t in tags], -1)
        theirs = plain(resized(heat, full), dense)
        end = clock()
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
        if seed:  # the first round warms up
            times["edgepose"].append(1e3 * (middle - start))
            times["numpy + scipy"].append(1e3 * (end - middle))
    fast, slow = (statistics.median(t) for t in times.values())
    print(
        f"{people} people, {size // 4}/{size // 2} maps at {size} pixels, 17 joints, 2 tags; {len(ours)} people found"
    )
    for name, t in times.items():
        print(f"{name:14s} {statistics.median(t):9.1f} ms   {statistics.median(t) / fast:6.1f} x")
    print(f"ratio          {slow / fast:9.1f}")


if __name__ == "__main__":
    tyro.cli(main)
