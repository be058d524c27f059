"""Grouping against a plain reference written from the description of the algorithm, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.codecs import grouping
from edgepose.codecs.assignment import assign
from edgepose.codecs.grouping import ORDER, adjusted, best_cells, find_peaks, group, match, refined
from edgepose.codecs.tagmaps import TagMaps, resize_axis

scipy_assign = pytest.importorskip("scipy.optimize").linear_sum_assignment
max_filter = pytest.importorskip("scipy.ndimage").maximum_filter


def plain_group(heat, tags, do_adjust=True, do_refine=True, max_people=30, threshold=0.1, tag_threshold=1.0):
    """The same steps, one joint and one person at a time."""
    joints, h, w = heat.shape
    people: dict = {}
    members: dict = {}
    for k in [k for k in ORDER if k < joints]:
        kept = np.where(max_filter(heat[k], 5, mode="constant", cval=-np.inf) == heat[k], heat[k], 0).ravel()
        top = np.argsort(-kept, kind="stable")[:max_people]
        top = top[kept[top].astype(np.float64) > threshold]
        rows = [(i % w, i // w, kept[i], tags[k, i // w, i % w]) for i in top]
        keys = list(people)[:max_people]
        owner = [None] * len(rows)
        if keys and rows:
            means = [np.mean(members[key], axis=0) for key in keys]
            dist = np.array([[np.linalg.norm(r[3].astype(np.float64) - m) for m in means] for r in rows])
            cost = np.round(dist) * 100 - np.array([[float(r[2])] for r in rows])
            cost = np.hstack([cost, np.full((len(rows), max(0, len(rows) - len(keys))), 1e10)])
            for r, c in enumerate(assign(cost)):
                if c < len(keys) and dist[r, c] < tag_threshold:
                    owner[r] = keys[c]
        for key, (x, y, value, tag) in zip(owner, rows, strict=True):
            if key is None:
                key = float(tag[0])
                people.setdefault(key, np.zeros((joints, 3), np.float32))
                members[key] = []
            people[key][k] = x, y, value
            members[key].append(tag)
    out = np.array(list(people.values()), np.float32).reshape(-1, joints, 3)
    quarter = lambda m, y, x: (  # noqa: E731
        0.25 if m[y, min(x + 1, w - 1)] > m[y, max(x - 1, 0)] else -0.25,
        0.25 if m[min(y + 1, h - 1), x] > m[max(y - 1, 0), x] else -0.25,
    )
    if do_adjust:
        for person in out:
            for k in range(joints):
                if person[k, 2] > 0:
                    x, y = int(person[k, 0]), int(person[k, 1])
                    dx, dy = quarter(heat[k], y, x)
                    person[k, :2] = x + dx + 0.5, y + dy + 0.5
    scores = np.array([p[:, 2].mean() for p in out])
    if do_refine:
        for person in out:
            seen = [k for k in range(joints) if person[k, 2] > 0]
            mean = np.mean([tags[k, int(person[k, 1]), int(person[k, 0])] for k in seen], axis=0)
            for k in range(joints):
                if person[k, 2] == 0:
                    apart = ((tags[k] - mean) ** 2).sum(2) ** 0.5
                    y, x = np.unravel_index(np.argmax(heat[k] - np.round(apart)), (h, w))
                    if heat[k, y, x] > 0:
                        dx, dy = quarter(heat[k], y, x)
                        person[k] = x + dx + 0.5, y + dy + 0.5, heat[k, y, x]
    return out, scores


def crowd(rng, people=6, joints=17, h=72, w=88, tags=2, missing=0.3, spread=1.5, noise=0.02):
    """Synthetic maps: blobs for each person's joints, tags constant around a person with some noise."""
    heat = rng.normal(0, noise, (joints, h, w)).astype(np.float32)
    tag = rng.normal(0, 0.3, (joints, h, w, tags)).astype(np.float32)
    yy, xx = np.mgrid[:h, :w]
    for p in range(people):
        own = rng.normal(0, spread * people**0.5, tags)
        cx, cy, size = rng.uniform(0, w), rng.uniform(0, h), rng.uniform(4, 20)
        for k in range(joints):
            x, y = np.clip(rng.normal([cx, cy], size), 0, [w - 1, h - 1])
            near = (xx - x) ** 2 + (yy - y) ** 2 < 64
            tag[k][near] = own + rng.normal(0, 0.15, tags)
            if rng.random() > missing:
                blob = rng.uniform(0.15, 1) * np.exp(-((xx - x) ** 2 + (yy - y) ** 2) / 8)
                heat[k] = np.maximum(heat[k], blob)
    return heat, tag


@pytest.mark.parametrize("seed", range(12))
def test_group_equals_the_plain_reference(seed):
    rng = np.random.default_rng(seed)
    shape = [(72, 88), (64, 64), (41, 67)][seed % 3]
    heat, tags = crowd(rng, people=seed + 1, joints=[17, 14][seed % 2], h=shape[0], w=shape[1], tags=seed % 2 + 1)
    for steps in ({}, {"adjust": False}, {"refine": False}):
        ours, scores = group(heat, tags, **steps)
        theirs, their_scores = plain_group(heat, tags, steps.get("adjust", True), steps.get("refine", True))
        np.testing.assert_array_equal(ours, theirs)
        np.testing.assert_allclose(scores, their_scores, rtol=1e-6)
