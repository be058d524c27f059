"""Augmentation for top-down training: one person a crop, as SimpleBaselines and HRNet do it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from edgepose.codecs.crop import crop
from edgepose.codecs.topdown import TopDown
from edgepose.data import Record
from edgepose.data._augment import Augment, Sample, distort
from edgepose.skeleton import LOWER


@dataclass(frozen=True)
class PersonAugment:
    """How strongly the crop of a person is changed, before the flips and colours of `Augment`.

    scale: spread of a normal factor on the box, cut at 1 - scale and 1 + scale. rotation: spread of a normal angle in
    degrees, cut at twice that; turn: probability of turning at all. half_body: probability that only the upper or the
    lower body is shown, for people with more than half_body_joints labelled joints. shift: largest shift of the box, as
    a fraction of its sides (0 in the HRNet family).
    """

    scale: float = 0.35
    rotation: float = 45.0
    turn: float = 0.6
    half_body: float = 0.3
    half_body_joints: int = 8
    shift: float = 0.0


def person(record: Record, row: int, codec: TopDown, rng: Generator, how: PersonAugment, look: Augment) -> Sample:
    """A random crop of the person in `row` of `record.truth`, at the input size of `codec`."""
    whole = record.truth
    pose = whole.pose(row)
    seen = pose.scores > 0
    box = whole.boxes[row] if whole.boxes is not None else np.concatenate([pose.xy[seen].min(0), pose.xy[seen].max(0)])
    box = np.asarray(box, float)
    if seen.sum() > how.half_body_joints and rng.random() < how.half_body:
        box = _half(record, row, rng, box)
    centre, sides = (box[:2] + box[2:]) / 2, box[2:] - box[:2]
    if how.shift:
        centre = centre + rng.uniform(-how.shift, how.shift, 2) * sides
    sides = sides * np.clip(rng.normal(1, how.scale), 1 - how.scale, 1 + how.scale) if how.scale else sides
    turned = rng.random() < how.turn
    angle = float(np.clip(rng.normal(0, 1), -2, 2)) * how.rotation if turned else 0.0
    warp = codec.frame(np.concatenate([centre - sides / 2, centre + sides / 2]), angle)
    only = whole[np.arange(len(whole)) == row]
    sample = Sample(crop(record.read(), warp), warp.poses(only), np.array([record.sparse]))
    return distort(sample, rng, look)


def _half(record: Record, row: int, rng: Generator, box: np.ndarray) -> np.ndarray:
    """The box around the labelled joints of the upper or the lower body, half as wide again (HRNet)."""
    pose = record.truth.pose(row)
    lower = np.array([any(part in name for part in LOWER) for name in record.truth.skeleton.joints])
    halves = [pose.xy[(pose.scores > 0) & rows] for rows in (~lower, lower)]
    halves = halves if rng.random() < 0.5 else halves[::-1]
    joints = next((half for half in halves if len(half) > 2), None)
    if joints is None:
        return box
    centre, extent = joints.mean(0), np.maximum(joints.max(0) - joints.min(0), 1) * 1.5
    return np.concatenate([centre - extent / 2, centre + extent / 2])
