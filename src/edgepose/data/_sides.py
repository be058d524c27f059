"""People whose left and right look swapped: what a body seen in a picture cannot show, whatever its pose.

Three rules, each about two pairs of joints that are both wide in the picture compared with the person's longest bone,
because a pair seen end-on has either order:

- Hips turn against the shoulders by much less than a half turn, so both pairs point the same way.
- A face that is seen shows its left eye to the left of the line from nose to forehead, as the person has it: where eyes
  and nose say otherwise, the eyes are swapped, or a face was labelled on the back of a head. And a head seen from the
  front, with shoulders that point the other way, would be turned back to front.
- An elbow belongs to the nearer shoulder, a knee to the nearer hip: where both are far on the other side, and swapping
  them shortens both bones together by 15 %, their names are swapped.

A body swapped as a whole is found by its face alone; one seen from behind cannot be told. These are suspicions for a
person to look at, not errors. Measured on 7,584 people of COCO train2017 (copies of 320 pixels) whose labels were
swapped on purpose, where the joints concerned are labelled: hips and legs 83 % found, arms 79 %, whole people with a
face in sight 54 %, bodies under such a face 38 %, legs 27 %. Of the people as they are, 0.2 % were suspected.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edgepose.poses import Pose

PAIRS = ("eye", "ear", "shoulder", "hip", "elbow", "knee")
WIDE = 0.3  # of the longest bone: both ends of a pair must be this far apart
BONES = (
    ("shoulder", "hip", 1.0),
    ("hip", "knee", 1.0),
    ("knee", "ankle", 1.0),
    ("shoulder", "elbow", 1.6),
    ("elbow", "wrist", 1.8),
)  # and how many times as long the torso is


def swapped(pose: Pose, visible: NDArray[np.uint8] | None = None) -> list[str]:
    """Why the sides of a labelled person look swapped; empty if they do not.

    visible: (J,) 0 not labelled, 1 hidden, 2 in sight; where it is known, only a face in sight counts.
    """
    at = {
        joint: pose.xy[j].astype(float)
        for j, joint in enumerate(pose.skeleton.joints)
        if pose.scores[j] > 0 and not (_of_face(joint) and visible is not None and visible[j] < 2)
    }
    size = _size(at)
    if size < 12:  # pixels: smaller people are labelled too roughly
        return []
    across = {part: at[f"left_{part}"] - at[f"right_{part}"] for part in PAIRS if _both(at, part)}
    reasons = []
    if "shoulder" in across and "hip" in across:
        s, h = across["shoulder"], across["hip"]
        if _angle(s, h) > 110 and _turn(s, 0.75 * size) + _turn(h, 0.42 * size) > 55:
            reasons.append("shoulders and hips point opposite ways")
    reasons += _face(at, across, size)
    for near, far in (("shoulder", "elbow"), ("hip", "knee")):
        if near in across and far in across and _crossed(at, near, far, size):
            reasons.append(f"{far}s belong to the other {near}")
    return reasons


def _of_face(joint: str) -> bool:
    return joint.endswith(("nose", "eye", "ear"))


def _both(at: dict[str, NDArray], part: str) -> bool:
    return f"left_{part}" in at and f"right_{part}" in at


def _size(at: dict[str, NDArray]) -> float:
    """The longest bone, measured in torso lengths, in pixels; 0 if none is labelled."""
    lengths = [
        scale * float(np.linalg.norm(at[f"{side}_{a}"] - at[f"{side}_{b}"]))
        for a, b, scale in BONES
        for side in ("left", "right")
        if f"{side}_{a}" in at and f"{side}_{b}" in at
    ]
    return max(lengths, default=0.0)


def _angle(a: NDArray, b: NDArray) -> float:
    """Degrees between two vectors."""
    norm = float(np.linalg.norm(a) * np.linalg.norm(b))
    return float(np.degrees(np.arccos(np.clip(float(a @ b) / max(norm, 1e-9), -1, 1))))


def _turn(across: NDArray, full: float) -> float:
    """Degrees that a pair at least stands off the line of sight: seen this wide, and from the front `full` pixels."""
    return float(np.degrees(np.arcsin(min(1.0, float(np.linalg.norm(across)) / full))))


def _face(at: dict[str, NDArray], across: dict[str, NDArray], size: float) -> list[str]:
    if "eye" not in across or "nose" not in at:
        return []
    eyes, middle = across["eye"], (at["left_eye"] + at["right_eye"]) / 2
    up = middle - at["nose"]
    width, height = float(np.linalg.norm(eyes)), float(np.linalg.norm(up))
    if width < 4 or height < 0.25 * width:
        return []
    chirality = float(up[0] * eyes[1] - up[1] * eyes[0]) / (width * height)  # 1: seen from the front
    if chirality < -0.5:
        return ["the eyes are swapped, or the face is on the far side of the head"]
    offset = abs(float((at["nose"] - middle) @ eyes)) / width**2
    if chirality > 0.5 and offset < 0.6 and "shoulder" in across:
        shoulders = across["shoulder"]
        if _angle(eyes, shoulders) > 120 and float(np.linalg.norm(shoulders)) > 0.5 * size:
            return ["the face is seen from the front, the shoulders from behind"]
    return []


def _crossed(at: dict[str, NDArray], near: str, far: str, size: float) -> bool:
    a, b = (at[f"{side}_{near}"] for side in ("left", "right"))
    c, d = (at[f"{side}_{far}"] for side in ("left", "right"))
    if min(np.linalg.norm(a - b), np.linalg.norm(c - d)) < WIDE * size or _angle(a - b, c - d) < 140:
        return False
    labelled = np.linalg.norm(a - c) + np.linalg.norm(b - d)
    other = np.linalg.norm(a - d) + np.linalg.norm(b - c)
    return bool(other < 0.85 * labelled)
