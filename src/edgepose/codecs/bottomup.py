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
from edgepose.codecs.grouping import group
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

    def __post_init__(self) -> None:
        for name, good in (
            ("input_size", self.input_size > 0),
            ("scales", all(s > 0 for s in self.scales) and (len(self.scales) == 1 or 1.0 in self.scales)),
            ("strides", all(s > 0 for s in self.strides) and len(self.strides) > 0),
            ("max_people", self.max_people > 0),
            ("threshold", self.threshold >= 0),
            ("nms_kernel", self.nms_kernel > 0 and self.nms_kernel % 2 == 1),
        ):
            if not good:
                raise ValueError(f"BottomUp cannot have {name} = {getattr(self, name)!r}")

    def frame(self, image_size: tuple[int, int], scale: float = 1.0) -> Warp:
        """The warp of a picture of `image_size` (w, h) at a test scale (HigherHRNet, LitePose).

        The short side becomes `input_size * scale`, the long side follows, rounded up to 64; the aspect is kept and the
        picture is centred. Pictures longer than `LONGEST` : 1 are zoomed until the long side fits that ratio instead.
        """
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
        size = (int(warp.size[0] / scale), int(warp.size[1] / scale))
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
        if not len(people):
            return Poses.empty(self.skeleton)
        if len(maps[main][0]) == 2:
            people[..., 0] -= np.float32(self.flip_shift * size[0] / warp.size[0])
        found = people[..., 2:] > 0
        xy = np.where(found, warp.back(people[..., :2] * np.divide(warp.size, size)), 0)
        low, high = np.where(found, xy, np.inf).min(1), np.where(found, xy, -np.inf).max(1)
        return Poses(xy, people[..., 2], self.skeleton, scores, boxes=np.concatenate([low, high], 1))

    def heatmaps(self, maps: Sequence[Maps], size: tuple[int, int]) -> NDArray[np.float32]:
        """The heatmaps (J, h, w) at `size` (w, h) that `decode` looks for peaks in; `maps` of every scale."""
        return self._heat(maps, size)[0]

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
