"""Top-down: one person a crop, one heatmap a joint (SimpleBaselines, ECCV 2018; HRNet, CVPR 2019; UDP, CVPR 2020)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import RGB, Batch, Image, Maps, Targets, normalise
from edgepose.codecs.crop import crop
from edgepose.codecs.heatmap import METHODS, gaussian_targets, peaks, unbiased_targets
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, Skeleton
from edgepose.warp import Warp


@dataclass(frozen=True)
class TopDown:
    """Codec of a network that sees one person at a time and gives J heatmaps.

    skeleton: the J joints. input_size: (w, h) of the network input, pixels. stride: input pixels per map pixel.
    sigma: of the Gaussian targets, map pixels. decode_with: `"shift"`, `"dark"` or `"udp"` (`heatmap.peaks`).
    flip: also run the mirrored crops. shift_flipped: move the mirrored maps by one pixel, because without UDP a map and
    its mirror image are three quarters of a map pixel apart (HRNet); no effect with `"udp"`.
    padding: the crop's side over the box's. threshold: joints above it count in a person's score.
    mean, std: what pictures (RGB, 0 to 1) are normalised with: ImageNet's, but for imported hourglasses of MPII.
    peaks_in_graph: the network's output is (n, J, 3): x, y (map pixels) and value of the highest peak of every joint,
    found in the graph; only without `flip`, which averages maps.
    With `"udp"` lengths are measured between the centres of the first and the last pixel, so that a mirrored map is the
    map of the mirrored crop, and targets are not rounded. Raises `ValueError` for values outside these.
    """

    skeleton: Skeleton = COCO17
    input_size: tuple[int, int] = (192, 256)
    stride: int = 4
    sigma: float = 2.0
    decode_with: str = "shift"
    flip: bool = True
    shift_flipped: bool = True
    padding: float = 1.25
    threshold: float = 0.2
    mean: RGB = (0.485, 0.456, 0.406)
    std: RGB = (0.229, 0.224, 0.225)
    peaks_in_graph: bool = False

    def __post_init__(self) -> None:
        for name, good in (
            ("input_size", len(self.input_size) == 2 and all(s > 0 and s % self.stride == 0 for s in self.input_size)),
            ("decode_with", self.decode_with in METHODS),
            ("sigma", self.sigma > 0),
            ("padding", self.padding > 0),
            ("std", min(self.std) > 0),
            ("peaks_in_graph", not (self.peaks_in_graph and self.flip)),
        ):
            if not good:
                raise ValueError(f"TopDown cannot have {name} = {getattr(self, name)!r}")

    def frame(self, box: NDArray, rotation: float = 0.0) -> Warp:
        """The warp of a box x0, y0, x1, y1 (image pixels): widened to the input's aspect, padded, centred, and turned
        by `rotation` degrees about its middle (training)."""
        (w, h), (x0, y0, x1, y1) = self.input_size, (float(v) for v in box)
        wide = max(x1 - x0, (y1 - y0) * w / h, 1.0) * self.padding
        trim = 1 if self.decode_with == "udp" else 0
        zoom = ((w - trim) / wide, (h - trim) / (wide * h / w))
        goal = ((w - trim) / 2, (h - trim) / 2)
        return Warp.around(((x0 + x1) / 2, (y0 + y1) / 2), zoom, self.input_size, rotation, goal)

    def encode(self, image: Image, boxes: NDArray | None = None) -> tuple[list[Batch], list[list[Warp]]]:
        """One batch: a crop per box (N, 4), then the mirrored crops with `flip`; without boxes the picture is the box.

        No box gives no batch.
        """
        if boxes is None:
            boxes = np.array([[-0.5, -0.5, image.shape[1] - 0.5, image.shape[0] - 0.5]])
        boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
        if not np.isfinite(boxes).all():
            raise ValueError(f"boxes must be finite x0, y0, x1, y1, got {boxes.tolist()}")
        if not len(boxes):
            return [], []
        warps = [self.frame(box) for box in boxes]
        batch = normalise(np.stack([crop(image, warp) for warp in warps]), self.mean, self.std)
        if self.flip:
            batch, warps = np.concatenate([batch, batch[..., ::-1]]), warps + [w.mirrored() for w in warps]
        return [batch], [warps]

    def _pitch(self) -> NDArray[np.float64]:
        """Input pixels per map pixel along x and y."""
        size = np.array(self.input_size, float)
        return (size - 1) / (size / self.stride - 1) if self.decode_with == "udp" else np.full(2, float(self.stride))

    def targets(self, truth: Poses, size: tuple[int, int]) -> Targets:
        """`heatmaps_0` (J, h, w) float32 and `weights` (J,) float32 of the first person of `truth` (input pixels).

        A weight is 1 for a labelled joint inside the input of `size` (w, h). Peaks are at the nearest map pixel, or at
        the joint itself with `"udp"`.
        """
        cells = (size[0] // self.stride, size[1] // self.stride)
        xy, seen = truth.xy[:1] / self._pitch(), truth.scores[:1] > 0
        if self.decode_with == "udp":
            maps = unbiased_targets(xy, seen, cells, self.sigma)
        else:
            maps = gaussian_targets(np.floor(xy + 0.5), seen, cells, self.sigma)
        inside = seen & (np.floor(xy + 0.5) >= 0).all(-1) & (np.floor(xy + 0.5) < np.array(cells)).all(-1)
        weights = inside[0] if len(inside) else np.zeros(len(self.skeleton))
        return {"heatmaps_0": maps, "weights": weights.astype(np.float32)}

    def decode(self, maps: Sequence[Maps], warps: Sequence[Sequence[Warp]]) -> Poses:
        """People in image pixels, in the order of the boxes, from the finest maps.

        A joint's score is the height of its peak (at least 0), a person's the mean of those above `threshold`, 0 if
        there is none; it is not multiplied by a detector's score, which the codec does not know.
        """
        if not maps:
            return Poses.empty(self.skeleton)
        heat, frames = np.asarray(maps[0][-1], np.float32), warps[0]
        if self.peaks_in_graph:
            if heat.shape != (len(frames), len(self.skeleton), 3):
                raise ValueError(f"peaks of shape {heat.shape} for {len(frames)} crops of {len(self.skeleton)} joints")
            return self._poses(heat[..., :2], heat[..., 2], frames)
        if heat.ndim != 4 or heat.shape[1] != len(self.skeleton) or len(heat) != len(frames):
            raise ValueError(f"maps of shape {heat.shape} for {len(frames)} crops and {len(self.skeleton)} joints")
        if self.flip:
            people = len(frames) // 2
            back = heat[people:, list(self.skeleton.mirror), :, ::-1]
            if self.shift_flipped and self.decode_with != "udp":
                back = np.concatenate([back[..., :1], back[..., :-1]], 3)
            heat, frames = (heat[:people] + back) / 2, frames[:people]
        return self._poses(*peaks(heat, self.decode_with, self.sigma), frames)

    def _poses(self, xy: NDArray, scores: NDArray, frames: Sequence[Warp]) -> Poses:
        """People from peaks (n, J, 2) in map pixels and their values (n, J)."""
        scores = np.maximum(scores, 0)
        xy = np.stack([warp.back(person * self._pitch()) for warp, person in zip(frames, xy, strict=True)])
        sure = scores > self.threshold
        person_scores = np.where(sure, scores, 0).sum(1) / np.maximum(sure.sum(1), 1)
        return Poses(xy, scores, self.skeleton, person_scores, boxes=np.concatenate([xy.min(1), xy.max(1)], 1))
