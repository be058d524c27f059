"""Bottom-up: the whole picture at once, heatmaps and associative-embedding tags (LitePose, CVPR 2022; HigherHRNet)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edgepose.codecs import Targets
from edgepose.codecs.heatmap import gaussian_targets, joint_table
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, Skeleton


@dataclass(frozen=True)
class BottomUp:
    """Codec of a network with J heatmaps in every output and J tags behind the heatmaps of the first output.

    skeleton: the J joints. input_size: short side of the network input at scale 1, in pixels, a multiple of 64.
    scales: test scales. flip: also run the mirrored picture. sigma: of the Gaussian targets, in map pixels at every scale.
    strides: input pixels per map pixel of each output, finest last. max_people: peaks kept per joint.
    threshold: of a peak. tag_threshold: farthest tag that joins a person. nms_kernel: side of the peak window, pixels.
    use_detection_val, ignore_too_much, adjust, refine: see `grouping.group`.
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
