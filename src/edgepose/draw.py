"""Draw poses on a picture.

Left limbs are orange and right limbs blue (a pair that colour-blind people tell apart); what joins both sides, and the
joints on the middle line, have a colour of the person's own. Lines grow with the person; unsure joints are faint.
"""

from __future__ import annotations

from collections.abc import Iterator

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image
from edgepose.poses import Pose, Poses

LEFT, RIGHT = (255, 143, 31), (44, 160, 255)
PEOPLE = ((240, 240, 240), (94, 214, 142), (246, 130, 200), (247, 226, 76), (186, 140, 255), (90, 224, 224))
DARK = (16, 16, 24)
SHIFT = 6  # OpenCV takes coordinates as integers with this many binary places
BLEED = 0.6  # OpenCV draws antialiased polygons this many pixels too fat
FAINT, SURE = 0.05, 0.4  # joint scores drawn at 12 % and at full strength


def draw(image: Image, poses: Poses, threshold: float = 0.0) -> Image:
    """A copy of `image` (h, w, 3) RGB uint8 with the people of `poses` whose score is at least `threshold`.

    Coordinates are sub-pixel, integers being pixel centres. Joints with score 0 are missing and not drawn.
    """
    out = image.copy()
    assert poses.person_scores is not None
    order = np.argsort(poses.person_scores, kind="stable")  # the surest person on top
    rank = {int(i): r for r, i in enumerate(order[::-1])}
    for i in order:
        if poses.person_scores[i] >= threshold:
            _person(out, poses.pose(int(i)), PEOPLE[rank[int(i)] % len(PEOPLE)])
    return out


def strength(scores: NDArray[np.float32]) -> NDArray[np.float32]:
    """Opacity of joints by their scores: 0 for missing, 0.12 for unsure to 1 for sure."""
    return np.where(scores > 0, np.clip((scores - FAINT) / (SURE - FAINT), 0, 1) * 0.88 + 0.12, 0).astype(np.float32)


def line_width(pose: Pose) -> float:
    """Width of this person's limbs in pixels, from the extent of the joints that are there."""
    seen = pose.xy[strength(pose.scores) > 0.5] if (strength(pose.scores) > 0.5).sum() > 1 else pose.xy[pose.scores > 0]
    extent = float(np.linalg.norm(np.ptp(seen, axis=0))) if len(seen) else 0.0
    return float(np.clip(extent / 55, 1.5, 60))


def _person(out: Image, pose: Pose, own: tuple[int, int, int]) -> None:
    colours = {"left": LEFT, "right": RIGHT, "middle": own}
    width, alpha = line_width(pose), strength(pose.scores)
    rim = max(0.75, width * 0.18)
    limbs = list(_limbs(pose))
    lengths = [float(np.linalg.norm(pose.xy[a] - pose.xy[b])) for a, b, _ in limbs]
    for outline in (True, False):  # all rims below all colours
        for (a, b, side), length in zip(limbs, lengths, strict=True):
            opacity, half = float(alpha[a] * alpha[b]), min(width / 2, max(0.6, length / 5))
            if outline:
                _capsule(out, pose.xy[a], pose.xy[b], half + rim, DARK, opacity * 0.55)
            else:
                _capsule(out, pose.xy[a], pose.xy[b], half, colours[side], opacity)
    for j, joint in enumerate(pose.skeleton.joints):
        if alpha[j] > 0:  # joints that lie close together, as in a small face, get smaller dots
            near = min((n for (a, b, _), n in zip(limbs, lengths, strict=True) if j in (a, b)), default=np.inf)
            radius = min(width * 0.8, max(1.0, near * 0.35))
            dot(out, pose.xy[j], radius + rim, DARK, float(alpha[j]) * 0.8)
            dot(out, pose.xy[j], radius, colours[pose.skeleton.side(joint)], float(alpha[j]))


def _limbs(pose: Pose) -> Iterator[tuple[int, int, str]]:
    """Rows of both joints and the side of every limb whose joints are there."""
    skeleton = pose.skeleton
    for a, b in skeleton.limb_rows:
        sides = {skeleton.side(skeleton.joints[a]), skeleton.side(skeleton.joints[b])} - {"middle"}
        if pose.scores[a] > 0 and pose.scores[b] > 0:
            yield a, b, sides.pop() if len(sides) == 1 else "middle"


def dot(out: Image, centre: NDArray, radius: float, colour: tuple[int, int, int], alpha: float) -> None:
    """Blend a filled circle into `out`, in place; centre (x, y) and radius in pixels, sub-pixel exact."""
    radius, turn = max(radius - BLEED, 0.1), np.arange(32) * (2 * np.pi / 32)
    _blend(out, centre + radius * np.stack([np.cos(turn), np.sin(turn)], 1), colour, alpha)


def _capsule(out: Image, a: NDArray, b: NDArray, radius: float, colour: tuple[int, int, int], alpha: float) -> None:
    """Blend a line from `a` to `b` with round ends into `out`, in place."""
    angle = float(np.arctan2(b[1] - a[1], b[0] - a[0]))
    turn = angle + np.pi / 2 + np.arange(9) * (np.pi / 8)
    half = max(radius - BLEED, 0.1) * np.stack([np.cos(turn), np.sin(turn)], 1)
    _blend(out, np.concatenate([a + half, b - half]), colour, alpha)


def _blend(out: Image, polygon: NDArray, colour: tuple[int, int, int], alpha: float) -> None:
    """Blend a convex polygon (n, 2), in pixels, into `out` with antialiased edges."""
    if alpha <= 0 or not np.isfinite(polygon).all():
        return
    polygon = np.clip(polygon, -(2.0**18), 2.0**18)  # far enough outside, and no overflow
    size, margin = np.array(out.shape[1::-1]), 8  # OpenCV's antialiasing is off where it clips: let that be outside
    low = np.clip(np.floor(polygon.min(0)) - 2, -margin, size).astype(int)
    high = np.clip(np.ceil(polygon.max(0)) + 3, 0, size + margin).astype(int)
    if (high <= np.maximum(low, 0)).any() or (low >= size).any():
        return
    mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
    cv2.fillConvexPoly(mask, np.round((polygon - low) * 2**SHIFT).astype(np.int32), 255, cv2.LINE_AA, SHIFT)
    (x0, y0), (x1, y1) = np.maximum(low, 0), np.minimum(high, size)
    mask, region = mask[y0 - low[1] : y1 - low[1], x0 - low[0] : x1 - low[0]], out[y0:y1, x0:x1]
    inked = mask > 0
    share = (mask[inked].astype(np.float32) * (alpha / 255))[:, None]
    region[inked] = (region[inked] * (1 - share) + np.array(colour, np.float32) * share + 0.5).astype(np.uint8)
