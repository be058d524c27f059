"""Training samples by number: the same number gives the same sample, in any worker and after any resume."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import normalise
from edgepose.codecs.bottomup import BottomUp
from edgepose.codecs.topdown import TopDown
from edgepose.data import Record
from edgepose.data._augment import Augment, Sample, distort, mosaic, photograph
from edgepose.data._persons import PersonAugment, person


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of an epoch."""
    return np.random.default_rng([seed, 1, epoch]).permutation(count)


@dataclass(frozen=True, eq=False)
class BottomUpSamples:
    """A map from sample number to arrays.

    photographs: shown whole, each once per epoch in an order drawn per epoch. singles: joined to mosaics. codec: makes
    the targets. resolutions: (first sample number, input size in pixels), rising, so that resolution can grow. sizes:
    one of these is drawn for every `batch` numbers instead, and pictures and targets are made at that size.
    """

    photographs: Sequence[Record]
    singles: Sequence[Record]
    codec: BottomUp
    augment: Augment
    resolutions: tuple[tuple[int, int], ...]
    seed: int = 0
    sizes: tuple[int, ...] = ()
    batch: int = 1

    def size(self, number: int) -> int:
        """Side of the input in pixels."""
        if self.sizes:
            step = np.random.default_rng([self.seed, 2, number // self.batch])
            return self.sizes[int(step.integers(len(self.sizes)))]
        return [size for first, size in self.resolutions if first <= number][-1]

    def picture(self, number: int, size: int = 0) -> Sample:
        """The augmented picture and its people; `size` where it shall not be its usual one."""
        rng = np.random.default_rng([self.seed, number])
        size = size or self.size(number)
        if self.singles and rng.random() < self.augment.mosaic:
            sample = mosaic(self.singles, size, rng, self.augment)
        else:
            epoch, row = divmod(number, len(self.photographs))
            order = _order(self.seed, epoch, len(self.photographs))
            sample = photograph(self.photographs[order[row]], size, rng, self.augment)
        return distort(sample, rng, self.augment)

    def __getitem__(self, number: int) -> dict[str, NDArray]:
        """`image` (3, s, s) and what `codec.targets` gives, with a mask (J, h, w) uint8 per supervised scale."""
        sample = self.picture(number)
        size = sample.image.shape[1], sample.image.shape[0]
        arrays = {"image": normalise(sample.image)[0], **self.codec.targets(sample.truth, size)}
        for i, stride in enumerate(self.codec.strides):
            arrays[f"mask_{i}"] = _mask(sample, stride)
        return arrays


def _mask(sample: Sample, stride: int) -> NDArray[np.uint8]:
    """1 where the heatmap loss counts: not on crowds and people without labels (`ignored`), nor for the joints without
    label of a sparsely labelled person, around that person."""
    h, w = sample.image.shape[0] // stride, sample.image.shape[1] // stride
    mask = np.ones((len(sample.truth.skeleton), h, w), np.uint8)
    if sample.ignored is not None:
        mask[:, sample.ignored[stride // 2 :: stride, stride // 2 :: stride][:h, :w]] = 0
    for pose, sparse in zip(sample.truth, sample.sparse, strict=True):
        seen = pose.xy[pose.scores > 0]
        if not sparse or not len(seen):
            continue
        low, high = seen.min(0), seen.max(0)
        pad = 0.15 * (high - low).max()
        x0, y0 = np.maximum((low - pad) / stride, 0).astype(int)
        x1, y1 = np.maximum((high + pad) / stride, 0).astype(int) + 1
        mask[pose.scores == 0, y0:y1, x0:x1] = 0
    return mask


@dataclass(frozen=True, eq=False)
class TopDownSamples:
    """A map from sample number to arrays: one person a sample, each once per epoch in an order drawn per epoch.

    people: (record, row of its truth). codec: crops and makes the targets.
    """

    people: Sequence[tuple[Record, int]]
    codec: TopDown
    person: PersonAugment
    augment: Augment
    seed: int = 0

    def picture(self, number: int) -> Sample:
        """The augmented crop and its person."""
        epoch, row = divmod(number, len(self.people))
        order = _order(self.seed, epoch, len(self.people))
        rng = np.random.default_rng([self.seed, number])
        record, which = self.people[order[row]]
        return person(record, which, self.codec, rng, self.person, self.augment)

    def __getitem__(self, number: int) -> dict[str, NDArray]:
        """`image` (3, h, w) and what `codec.targets` gives."""
        sample = self.picture(number)
        image = normalise(sample.image, self.codec.mean, self.codec.std)[0]
        return {"image": image, **self.codec.targets(sample.truth, self.codec.input_size)}
