"""Skeletons of custom sets: from the joint names that labelling tools hand over, whatever way they spell the sides."""

from __future__ import annotations

import re
from collections.abc import Sequence

from edgepose.skeleton import COCO17, CROWDPOSE14, SKELETONS, Skeleton

SIGMA = 0.072  # mean of COCO's constants, for joints that COCO and CrowdPose do not know
_SIDES = {"left": "left", "l": "left", "right": "right", "r": "right"}
_KNOWN = {j: s for skeleton in (CROWDPOSE14, COCO17) for j, s in zip(skeleton.joints, skeleton.sigmas, strict=True)}


def custom_skeleton(
    name: str, joints: Sequence[str], limbs: Sequence[tuple[int, int]] = (), mirror: Sequence[int] | None = None
) -> Skeleton:
    """A skeleton from joint names, limbs as rows (from 0) and, where known, the permutation that swaps the sides.

    Names are written in snake case with the side first: `LeftEye`, `l_eye`, `eye-L` and `left eye` become `left_eye`.
    Where `mirror` says something else than the names, both joints of a pair are named after the first one, `left_...`
    and `right_...`. Joints in the order of a known skeleton give that skeleton. `ValueError` if a name has a side but
    no partner, or `mirror` is no swap of pairs.
    """
    names = [sided(joint) for joint in joints]
    pairs = list(range(len(names))) if mirror is None else [int(m) for m in mirror]
    if sorted(pairs) != list(range(len(names))) or any(pairs[pairs[i]] != i for i in range(len(names))):
        raise ValueError(f"flip_idx of {name} must swap pairs of its {len(names)} joints, got {list(mirror or [])}")
    if mirror is not None and pairs != _by_names(names):
        for i, joint in enumerate(names):
            if pairs[i] == i and joint.startswith(("left_", "right_")):
                raise ValueError(
                    f"flip_idx of {name} says that {joint!r} is in the middle; give it the row of its partner"
                )
        bare = [re.sub(r"^(left|right)_", "", joint) for joint in names]
        names = [bare[i] if m == i else ("left_" if i < m else "right_") + bare[min(i, m)] for i, m in enumerate(pairs)]
    for known in SKELETONS.values():
        if tuple(names) == known.joints:
            return known
    sigmas = tuple(_KNOWN.get(joint, SIGMA) for joint in names)
    if not all(0 <= row < len(names) for limb in limbs for row in limb):
        raise ValueError(f"a limb of {name} names a joint that is not one of its {len(names)}: {list(limbs)}")
    lines = tuple((names[a], names[b]) for a, b in limbs)
    return Skeleton(name, tuple(names), lines, sigmas)


def sided(joint: str) -> str:
    """A joint name in snake case with its side, if any, first: `RightWrist` -> `right_wrist`, `hip.L` -> `left_hip`."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", joint)
    spaced = re.sub(r"(?i)^(left|right)(?=[a-z])", r"\1 ", spaced)  # leftshoulder
    words = [word.lower() for word in re.split(r"[^0-9A-Za-z]+", spaced) if word]
    sides = [word for word in words if word in _SIDES]
    if len(sides) != 1 or len(words) == 1:
        return "_".join(words) or joint
    return "_".join([_SIDES[sides[0]], *(word for word in words if word not in _SIDES)])


def _by_names(names: Sequence[str]) -> list[int]:
    """The permutation that the names say, or none where they say no complete one."""
    swapped = [re.sub(r"^(left|right)_", lambda m: "right_" if m[1] == "left" else "left_", n) for n in names]
    return [names.index(s) for s in swapped] if set(swapped) == set(names) else []
