"""Grouping against a plain reference written from the description of the algorithm, and against scipy."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.codecs import blocks
from edgepose.codecs.assignment import assign
from edgepose.codecs.blocks import best_cells
from edgepose.codecs.grouping import ORDER, Peaks, adjusted, find_peaks, group, match, refined
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
    for _ in range(people):
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


@pytest.mark.parametrize("seed", range(40))
def test_assignment_is_optimal(seed):
    rng = np.random.default_rng(seed)
    n = rng.integers(1, 12)
    m = n + rng.integers(0, 6)
    cost = np.rint(rng.uniform(0, 4, (n, m))) * 100 - rng.uniform(0, 1, (n, 1)) if seed % 2 else rng.normal(size=(n, m))
    columns = assign(cost)
    assert len(set(columns)) == n
    np.testing.assert_allclose(cost[range(n), columns].sum(), cost[scipy_assign(cost)].sum(), atol=1e-9)


def test_assignment_breaks_ties_as_munkres_does():
    cost = np.array([[0, 0, 1], [0, 0, 1], [0, 1, 1]]) * 100.0
    assert assign(cost) == [2, 1, 0]  # as given by munkres 1.1.4
    with pytest.raises(ValueError, match="more rows"):
        assign(np.zeros((3, 2)))


def test_peaks_are_window_maxima_in_order():
    heat = np.zeros((1, 20, 30), np.float32)
    heat[0, 5, 5], heat[0, 5, 7], heat[0, 5, 8], heat[0, 19, 29], heat[0, 0, 20] = 0.5, 0.9, 0.3, 0.7, np.float32(0.1)
    tags = np.arange(600, dtype=np.float32).reshape(1, 20, 30, 1)
    (peak,) = find_peaks(heat, TagMaps.dense(tags))
    # (5, 5) is within two pixels of (7, 5); float32(0.1) is above 0.1
    assert list(zip(peak.x, peak.y, strict=True)) == [(7, 5), (29, 19), (20, 0)]
    np.testing.assert_array_equal(peak.tags[:, 0], [157, 599, 20])
    assert len(find_peaks(heat, TagMaps.dense(tags), count=2)[0].x) == 2


def people_of(*tags):
    """One joint after another, each with the given tags, as peaks."""
    rows = []
    for joint, values in enumerate(tags):
        n = len(values)
        x = np.arange(n) + 10 * joint
        tag = np.array(values, np.float32).reshape(n, 1)
        rows.append(Peaks(x, x, np.linspace(0.9, 0.5, n).astype(np.float32), tag))
    return rows


def test_matching_rules():
    assert len(match(people_of([1.0, 1.0, 5.0]))) == 2  # equal first tags are one person, the later peak stays
    assert match(people_of([1.0, 1.0, 5.0]))[0, 0, 0] == 1
    assert len(match(people_of([1.0], [1.99]))) == 1
    assert len(match(people_of([1.0], [2.0]))) == 2  # the threshold itself is too far
    assert len(match(people_of([1.0, 4.0], [1.1, 4.1, 9.0]))) == 3
    assert len(match(people_of([1.0, 4.0], [9.0]), max_people=2, ignore_too_much=True)) == 2
    assert match(people_of([0.0], [0.8], [-0.5])).shape == (1, 3, 3)  # mean tag 0.4 is 0.9 from -0.5
    assert len(match(people_of([0.0], [0.8], [-0.7]))) == 2
    assert len(match(people_of([np.nan], [np.nan]))) == 2


def test_adjust_and_scores():
    heat = np.zeros((2, 10, 12), np.float32)
    heat[0, 4, 5], heat[0, 4, 6], heat[0, 3, 5] = 1, 0.5, 0.2
    people = np.array([[[5, 4, 1], [0, 0, 0]]], np.float32)
    np.testing.assert_array_equal(adjusted(people, heat), [[[5.75, 4.25, 1], [0, 0, 0]]])
    _, scores = group(heat, np.zeros((2, 10, 12, 1), np.float32))
    np.testing.assert_allclose(scores, [0.5])  # the missing joint counts, found again or not


def test_refine_looks_where_the_tag_is_the_persons():
    heat, tags = np.zeros((2, 24, 24), np.float32), np.zeros((2, 24, 24, 1), np.float32)
    tags[1, 12:] = 4
    heat[1, 4, 4], heat[1, 20, 20] = 0.05, 0.09
    people = np.array([[[3, 3, 1], [0, 0, 0]]], np.float32)
    np.testing.assert_allclose(refined(people, heat, TagMaps.dense(tags))[0, 1], [4.25, 4.25, 0.05])
    assert not refined(people, -np.ones_like(heat), TagMaps.dense(tags))[0, 1].any()


@pytest.mark.parametrize("seed", range(20))
def test_branch_and_bound_finds_the_first_maximum(seed, monkeypatch):
    monkeypatch.setattr(blocks, "FEW", seed % 2 * 512)
    monkeypatch.setattr(blocks, "CHUNK", seed % 5 * 3 or 4096)  # what one chunk finds, the next may surpass
    rng = np.random.default_rng(seed)
    h, w, t = rng.integers(3, 120), rng.integers(3, 120), rng.integers(1, 3)
    heat = np.round(rng.uniform(-0.2, 1, (h, w)), 1).astype(np.float32)  # many ties
    heat = heat if seed % 4 else np.zeros_like(heat)
    tags = np.round(rng.normal(0, 2, (1, h, w, t)), 1).astype(np.float32)
    means = rng.normal(0, 2, (5, t)).astype(np.float32)
    plain = [np.argmax(heat - np.round(((tags[0] - m) ** 2).sum(2) ** 0.5)) for m in means]
    np.testing.assert_array_equal(best_cells(heat[None], TagMaps.dense(tags), np.zeros(5, int), means), plain)


def test_lazy_tags_group_as_dense_tags():
    rng = np.random.default_rng(5)
    heat, _ = crowd(rng, people=4, h=64, w=96)
    small = np.repeat(np.repeat(rng.normal(0, 2, (2, 17, 4, 6)), 4, 2), 4, 3).astype(np.float32)
    lazy = TagMaps.resized(small, [(48, 32), (96, 64)])
    y, x = (a.ravel() for a in np.mgrid[:64, :96])
    dense = np.stack([lazy.at(j, y, x).reshape(64, 96, 2) for j in range(17)])
    np.testing.assert_allclose(group(heat, lazy)[0], group(heat, dense)[0], atol=1e-6)
    assert resize_axis(24, 48, 96).size == 96
