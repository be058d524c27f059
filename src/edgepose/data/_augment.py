"""Augmentation for bottom-up training: warped photographs and mosaics, colour, blur and occlusion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.random import Generator

from edgepose.codecs import Image
from edgepose.data import Record
from edgepose.data._mask import ignore_mask
from edgepose.poses import Poses
from edgepose.warp import Warp


@dataclass(frozen=True)
class Augment:
    """How strongly training pictures are changed.

    scale: range of the random view (1 = the short side fills the input). rotation: degrees each way. shift: range of
    the view's centre, as a fraction of the short side. flip, grey, blur, occlusion: probabilities. colour: strength.
    mosaic: share of the samples that are mosaics. cells: range of the number of photographs in a mosaic.
    """

    scale: tuple[float, float] = (0.45, 1.2)
    rotation: float = 15.0
    shift: float = 0.2
    flip: float = 0.5
    colour: float = 0.25
    grey: float = 0.05
    blur: float = 0.1
    occlusion: float = 0.15
    mosaic: float = 0.4
    cells: tuple[int, int] = (2, 7)


@dataclass(frozen=True, eq=False)
class Sample:
    """A training picture (size, size, 3) RGB uint8 with its people in input pixels.

    sparse: (N,) bool, people whose unlabelled joints may be in plain sight. ignored: (size, size) bool, where people
    are not labelled, so that nothing is taught; None: nowhere.
    """

    image: Image
    truth: Poses
    sparse: np.ndarray
    ignored: np.ndarray | None = None


def photograph(record: Record, size: int, rng: Generator, how: Augment) -> Sample:
    """A random view of one photograph (scale, rotation, translation about the centre, as HigherHRNet)."""
    w, h = record.size
    side = min(w, h) * rng.uniform(*how.scale)
    centre = np.array([w / 2, h / 2]) + rng.uniform(-how.shift, how.shift, 2) * side
    turn = rng.uniform(-how.rotation, how.rotation)
    return _view(record, Warp.around(tuple(centre), size / side, (size, size), turn))


def _view(record: Record, warp: Warp) -> Sample:
    truth = warp.poses(record.truth)
    inside = ((truth.xy >= 0) & (truth.xy < np.array(warp.size))).all(-1)
    truth = replace(truth, scores=truth.scores * inside)
    ignored = None
    if record.others:
        ignored = warp.apply(ignore_mask(record).astype(np.uint8), nearest=True).astype(np.bool_)
    return Sample(warp.apply(record.read()), truth, np.full(len(truth), record.sparse), ignored)


def mosaic(records: Sequence[Record], size: int, rng: Generator, how: Augment) -> Sample:
    """A canvas split at random into cells, each a view of one person of a random photograph that fills the cell."""
    cells = [(0, 0, size, size)]
    for _ in range(rng.integers(how.cells[0], how.cells[1] + 1) - 1):
        x, y, w, h = cells.pop(int(np.argmax([c[2] * c[3] * rng.uniform(0.5, 1) for c in cells])))
        cut = rng.uniform(0.35, 0.65)
        a = int(w * cut), int(h * cut)
        if w > h:
            cells += [(x, y, a[0], h), (x + a[0], y, w - a[0], h)]
        else:
            cells += [(x, y, w, a[1]), (x, y + a[1], w, h - a[1])]
    image = np.zeros((size, size, 3), np.uint8)
    ignored = np.zeros((size, size), np.bool_)
    xy, scores, sparse = [], [], []
    for x, y, w, h in cells:
        record = records[int(rng.integers(len(records)))]
        view = _view(record, _person_warp(record, (w, h), rng, how))
        image[y : y + h, x : x + w] = view.image
        if view.ignored is not None:
            ignored[y : y + h, x : x + w] = view.ignored
        xy.append(view.truth.xy + np.array([x, y], np.float32))
        scores.append(view.truth.scores)
        sparse.append(view.sparse)
    skeleton = records[0].truth.skeleton
    truth = Poses(np.concatenate(xy), np.concatenate(scores), skeleton)
    return Sample(image, truth, np.concatenate(sparse), ignored if ignored.any() else None)


def _person_warp(record: Record, size: tuple[int, int], rng: Generator, how: Augment) -> Warp:
    """A view of `size` in which a random person of the record takes 60 to 110 % of what fits."""
    box = np.array([0, 0, *record.size], float)
    if len(record.truth):
        person = record.truth.pose(int(rng.integers(len(record.truth))))
        seen = person.xy[person.scores > 0]
        box = np.concatenate([seen.min(0), seen.max(0)]).astype(float)
    extent = np.maximum(box[2:] - box[:2], 0.1 * min(record.size)) * 1.3
    zoom = min(size[0] / extent[0], size[1] / extent[1]) * rng.uniform(0.6, 1.1)
    room = np.maximum(np.array(size) - extent * zoom, 0.1 * np.array(size))
    target = np.array(size) / 2 + rng.uniform(-0.5, 0.5, 2) * room
    turn = rng.uniform(-how.rotation, how.rotation)
    return Warp.around(tuple((box[:2] + box[2:]) / 2), float(zoom), size, turn, tuple(target))


def distort(sample: Sample, rng: Generator, how: Augment) -> Sample:
    """Flip (left and right joints swapped), colour, grey, blur and a pasted rectangle."""
    image, truth, ignored = sample.image, sample.truth, sample.ignored
    if rng.random() < how.flip:
        image, truth = np.ascontiguousarray(image[:, ::-1]), truth.mirrored(image.shape[1])
        ignored = None if ignored is None else ignored[:, ::-1]
    c = how.colour
    gain = (rng.uniform(1 - c, 1 + c) * rng.uniform(1 - c / 3, 1 + c / 3, 3)).astype(np.float32)
    table = np.arange(256, dtype=np.float32)[:, None] * gain + rng.uniform(-80, 80) * c
    image = cv2.LUT(image, np.clip(table, 0, 255).astype(np.uint8)[None].copy())
    saturation = 0.0 if rng.random() < how.grey else rng.uniform(1 - 1.5 * c, 1 + 1.5 * c)
    grey = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    image = cv2.addWeighted(image, saturation, grey, 1 - saturation, 0)
    if rng.random() < how.blur:
        image = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.4, 1.2))
    if rng.random() < how.occlusion:
        down, across = image.shape[:2]
        w, h = (int(v) for v in rng.uniform(0.05, 0.3, 2) * (across, down))
        x, y, u, v = (int(a) for a in rng.uniform(0, 1, 4) * (across - w, down - h, across - w, down - h))
        image[y : y + h, x : x + w] = image[v : v + h, u : u + w].copy() if rng.random() < 0.5 else rng.integers(256)
    return Sample(np.asarray(image, np.uint8), truth, sample.sparse, ignored)
