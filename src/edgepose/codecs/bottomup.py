"""Bottom-up: the whole picture at once, heatmaps and associative-embedding tags (LitePose, CVPR 2022; HigherHRNet)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Batch, Image, Maps, Targets, normalise
from edgepose.codecs.blocks import block_maxima, row_maxima
from edgepose.codecs.crop import crop
from edgepose.codecs.grouping import Peaks, group, match
from edgepose.codecs.heatmap import gaussian_targets, joint_table
from edgepose.codecs.tagmaps import TagMaps
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, Skeleton
from edgepose.warp import Warp

LONGEST = 4  # long side of the network input over the short side, at most


@dataclass(frozen=True)
class BottomUp:
    """Codec of a network with J heatmaps in every output and J tags behind the heatmaps of the first output.

    skeleton: the J joints. input_size: short side of the network input at scale 1, in pixels, rounded up to 64.
    scales: test scales, with 1.0 among them if there are several. flip: also run the mirrored picture.
    sigma: of the Gaussian targets, in map pixels at every scale.
    strides: input pixels per map pixel of each output, finest last. max_people: peaks kept per joint.
    threshold: of a peak, >= 0. tag_threshold: farthest tag that joins a person. nms_kernel: peak window, odd.
    use_detection_val, ignore_too_much, adjust, refine: see `grouping.group`.
    flip_shift: input pixels that `flip` moves people to the right, taken back. Targets are truncated to the left in the
    picture and in its mirror image alike, so the mean of both lies half a pixel off; 0 keeps the reference's drift.
    canvas: (w, h) of the network input for engines that take one size only: pictures are fitted into it, whatever their
    aspect, with black around them; smaller test scales fill its upper left part. None: the input follows the picture.
    peaks_in_graph: the network's output is (n, J, max_people, 4): x, y, value and tag of the highest peaks, found in
    the graph at the network input's size; only with one scale, without `flip` and `refine`, which need whole maps.
    Raises `ValueError` for values outside these.
    """

    skeleton: Skeleton = COCO17
    input_size: int = 256
    scales: tuple[float, ...] = (1.0,)
    flip: bool = True
    sigma: float = 2.0
    strides: tuple[int, ...] = (4, 2)
    max_people: int = 30
    threshold: float = 0.1
    tag_threshold: float = 1.0
    nms_kernel: int = 5
    use_detection_val: bool = True
    ignore_too_much: bool = False
    adjust: bool = True
    refine: bool = True
    flip_shift: float = 0.5
    canvas: tuple[int, int] | None = None
    peaks_in_graph: bool = False

    def __post_init__(self) -> None:
        for name, good in (
            ("input_size", self.input_size > 0),
            ("scales", all(s > 0 for s in self.scales) and (len(self.scales) == 1 or 1.0 in self.scales)),
            ("strides", all(s > 0 for s in self.strides) and len(self.strides) > 0),
            ("max_people", self.max_people > 0),
            ("threshold", self.threshold >= 0),
            ("nms_kernel", self.nms_kernel > 0 and self.nms_kernel % 2 == 1),
            ("canvas", self.canvas is None or all(self._fits(s) for s in self.scales)),
            ("peaks_in_graph", not self.peaks_in_graph or (len(self.scales) == 1 and not (self.flip or self.refine))),
        ):
            if not good:
                raise ValueError(f"BottomUp cannot have {name} = {getattr(self, name)!r}")

    def _fits(self, scale: float) -> bool:
        """Whether the part of the canvas that a test scale fills has whole map pixels."""
        sides = [side * scale / max(self.scales) for side in self.canvas or ()]
        return len(sides) == 2 and all(s > 0 and s % max(self.strides) == 0 for s in sides)

    def _part(self, warp: Warp, scale: float) -> tuple[int, int]:
        """(w, h) of what a test scale fills of the network input that `warp` leads to: all of it without a canvas."""
        if self.canvas is None:
            return warp.size
        return int(self.canvas[0] * scale / max(self.scales)), int(self.canvas[1] * scale / max(self.scales))

    def _letterbox(self, image_size: tuple[int, int], scale: float) -> Warp:
        """The warp that fits a picture of `image_size` (w, h) into the part of the canvas for a test scale, centred."""
        assert self.canvas is not None
        part = np.array([side * scale / max(self.scales) for side in self.canvas])
        zoom = float((part / image_size).min())
        shift = part / 2 - zoom * (np.array(image_size) / 2 + 0.5).astype(int)  # centre on centre, as in `frame`
        return Warp(np.array([[zoom, 0, shift[0]], [0, zoom, shift[1]]]), self.canvas)

    def frame(self, image_size: tuple[int, int], scale: float = 1.0) -> Warp:
        """The warp of a picture of `image_size` (w, h) at a test scale (HigherHRNet, LitePose).

        With a `canvas` the picture is fitted into that. Else the short side becomes `input_size * scale`, the long side
        follows, rounded up to 64; the aspect is kept and the picture is centred. Pictures longer than `LONGEST` : 1 are
        zoomed until the long side fits that ratio instead.
        """
        if self.canvas is not None:
            return self._letterbox(image_size, scale)
        w, h = image_size
        least = min(self.scales)
        short = int((least * self.input_size + 63) // 64 * 64)
        if max(w, h) <= LONGEST * min(w, h):
            long = int((short / min(w, h) * max(w, h) + 63) // 64 * 64)
            zoom = int(short * scale / least) / min(w, h)
        else:
            long, zoom = LONGEST * short, int(LONGEST * short * scale / least) / max(w, h)
            short = max(64, int((long / max(w, h) * min(w, h) + 63) // 64 * 64))
        short, long = int(short * scale / least), int(long * scale / least)
        size = (short, long) if w < h else (long, short)
        centre, goal = (int(w / 2 + 0.5), int(h / 2 + 0.5)), (size[0] / 2, size[1] / 2)
        # the reference solves for three points in single precision; these are its roundings
        above = np.float32(centre[1] - goal[0] / zoom)
        left = np.float32(centre[0]) - (np.float32(centre[1]) - above)
        across, down = goal[0] / (centre[0] - float(left)), goal[0] / (centre[1] - float(above))
        matrix = [[across, 0, goal[0] - across * centre[0]], [0, down, goal[1] - down * centre[1]]]
        return Warp(np.array(matrix), size)

    def encode(self, image: Image, boxes: NDArray | None = None) -> tuple[list[Batch], list[list[Warp]]]:
        """One batch per scale: the picture, and its mirror image with `flip`. `boxes` are of no use here."""
        batches, warps = [], []
        for scale in self.scales:
            warp = self.frame((image.shape[1], image.shape[0]), scale)
            batch = normalise(crop(image, warp, quick=True))
            batches.append(np.concatenate([batch, batch[..., ::-1]]) if self.flip else batch)
            warps.append([warp, warp.mirrored()] if self.flip else [warp])
        return batches, warps

    def decode(self, maps: Sequence[Maps], warps: Sequence[Sequence[Warp]]) -> Poses:
        """People in image pixels from the maps of every scale; a missing joint is at (0, 0) with score 0.

        Heatmaps of all outputs, of the mirrored picture and of all scales are averaged at the network input's size of
        scale 1; tags are those of the first output at scale 1, one set per picture of the batch. `person_scores` is
        the mean joint value before refinement, `boxes` spans the joints found.
        """
        main = self.scales.index(1.0) if len(self.scales) > 1 else 0
        warp, scale = warps[main][0], self.scales[main]
        part = self._part(warp, scale)
        size = (int(part[0] / scale), int(part[1] / scale))
        if self.peaks_in_graph:
            return self._poses(*self._grouped(maps[0][0]), warp, np.ones(2))
        if self.canvas is not None:
            maps = [self._filled(outputs, w[0], s) for outputs, w, s in zip(maps, warps, self.scales, strict=True)]
        heat, top = self._heat(maps, size)
        finest = (maps[main][-1].shape[3], maps[main][-1].shape[2])
        tags = TagMaps.resized(self._both(maps[main][0], slice(len(self.skeleton), None)), [finest, size])
        people, scores = group(
            heat,
            tags,
            max_people=self.max_people,
            threshold=self.threshold,
            tag_threshold=self.tag_threshold,
            nms_kernel=self.nms_kernel,
            use_detection_val=self.use_detection_val,
            ignore_too_much=self.ignore_too_much,
            adjust=self.adjust,
            refine=self.refine,
            top=top,
        )
        if len(maps[main][0]) == 2:
            people[..., 0] -= np.float32(self.flip_shift * size[0] / part[0])
        return self._poses(people, scores, warp, np.divide(part, size))

    def _poses(self, people: NDArray, scores: NDArray, warp: Warp, pitch: NDArray) -> Poses:
        """People (P, J, 3) in pixels of which each is `pitch` input pixels -> poses in image pixels."""
        if not len(people):
            return Poses.empty(self.skeleton)
        found = people[..., 2:] > 0
        xy = np.where(found, warp.back(people[..., :2] * pitch), 0)
        low, high = np.where(found, xy, np.inf).min(1), np.where(found, xy, -np.inf).max(1)
        return Poses(xy, people[..., 2], self.skeleton, scores, boxes=np.concatenate([low, high], 1))

    def heatmaps(self, maps: Sequence[Maps], size: tuple[int, int]) -> NDArray[np.float32]:
        """The heatmaps (J, h, w) at `size` (w, h) that `decode` looks for peaks in; `maps` of every scale."""
        return self._heat(maps, size)[0]

    def _grouped(self, found: NDArray) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """People (P, J, 3) and their scores (P,) from peaks (1, J, max_people, 4) that the graph found."""
        if found.shape != (1, len(self.skeleton), self.max_people, 4):
            raise ValueError(
                f"peaks of shape {found.shape} for {len(self.skeleton)} joints of {self.max_people} people"
            )
        rows = [joint[joint[:, 2].astype(np.float64) > self.threshold] for joint in found[0]]
        peaks = [Peaks(r[:, 0], r[:, 1], r[:, 2], r[:, 3:]) for r in rows]
        kinds = self.max_people, self.tag_threshold, self.use_detection_val, self.ignore_too_much
        people = match(peaks, *kinds)
        return people, people[..., 2].mean(1)

    def _filled(self, outputs: Maps, warp: Warp, scale: float) -> Maps:
        """The maps of the part of the canvas that a test scale fills; of mirrored pictures that is on the right."""
        part = self._part(warp, scale)
        cut = []
        for output in outputs:
            h, w = output.shape[2:]
            h, w = part[1] * h // warp.size[1], part[0] * w // warp.size[0]
            cut.append(np.concatenate([output[:1, :, :h, :w], output[1:, :, :h, output.shape[3] - w :]]))
        return cut

    def _both(self, output: NDArray, channels: slice) -> NDArray[np.float32]:
        """(n, J, h, w) `channels` of an output; those of the mirrored picture are mirrored back."""
        joints = len(self.skeleton)
        part = np.asarray(output[:, channels], np.float32)
        if len(part) not in (1, 2) or part.shape[1] != joints:
            raise ValueError(f"an output of shape {output.shape} does not hold {joints} joints ({self.skeleton.name})")
        if len(part) == 1:
            return part
        mirrored = [cv2.flip(part[1, k], 1) for k in self.skeleton.mirror]
        return np.stack([part[0], mirrored])

    def _heat(self, maps: Sequence[Maps], size: tuple[int, int]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Heatmaps (J, h, w) at `size` (w, h), the mean over scales of the mean over outputs and pictures, and their
        `block_maxima`. Joint by joint, so that what is read again is still in the cache."""
        scales = [[self._both(output, slice(len(self.skeleton))) for output in outputs] for outputs in maps]
        heat, rows = np.empty((len(self.skeleton), size[1], size[0]), np.float32), []
        for k in range(len(heat)):
            planes = []
            for outputs in scales:
                pictures = [part[0, k] if len(part) == 1 else part[0, k] + part[1, k] for part in outputs]
                plane = mean_resized(pictures, outputs[-1].shape[:1:-1])
                planes.append(plane / np.float32(2) if len(outputs[0]) == 2 else plane)
            mean_resized(planes, size, heat[k])
            rows.append(row_maxima(heat[k]))
        return heat, block_maxima(np.stack(rows))

    def targets(self, truth: Poses, size: tuple[int, int]) -> Targets:
        """Targets of `truth`, people in input pixels, for an input of `size` (w, h).

        `heatmaps_<i>` (J, h, w) float32 for each stride, and `joints` (max_people, J, 2) int64: where the tags of each
        person are read in the first output (`heatmap.joint_table`). A map coordinate is the input coordinate divided by
        the stride, truncated.
        """
        out: Targets = {}
        for i, stride in enumerate(self.strides):
            xy, cells = truth.xy / np.float32(stride), (size[0] // stride, size[1] // stride)
            out[f"heatmaps_{i}"] = gaussian_targets(xy, truth.scores, cells, self.sigma)
            if i == 0:
                out["joints"] = joint_table(xy, truth.scores, cells, self.max_people)
        return out


def mean_resized(
    planes: Sequence[NDArray[np.float32]], size: tuple[int, ...], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Mean of planes (h, w), each resized to `size` (w, h): bilinear, pixel areas aligned, edges clamped."""
    share = np.float32(1 / len(planes))
    first, *rest = [plane * share for plane in planes] if len(planes) > 1 else planes  # scaled while they are small
    mean = np.asarray(cv2.resize(first, size, dst=out, interpolation=cv2.INTER_LINEAR), np.float32)
    for plane in rest:
        mean += plane if plane.shape == mean.shape else cv2.resize(plane, size, interpolation=cv2.INTER_LINEAR)
    return mean
