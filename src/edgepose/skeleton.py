"""Skeletons: joint names, limbs by name, OKS sigmas. Mirror and index follow from the names."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any


def _mirrored(joint: str) -> str:
    for a, b in (("left", "right"), ("right", "left")):
        if joint.startswith(a + "_"):
            return b + joint[len(a) :]
        if joint.endswith("_" + a):
            return joint[: -len(a)] + b
    return joint


LOWER = ("hip", "knee", "ankle", "pelvis", "foot", "toe", "heel")  # in the names of joints of the lower body


@dataclass(frozen=True)
class Skeleton:
    """A set of named joints.

    name: short name of the set.
    joints: J distinct joint names; sides are written `left_...` / `right_...`.
    limbs: pairs of joint names that are drawn as lines.
    sigmas: J per-joint constants of the object keypoint similarity (COCO), as a fraction of sqrt(area).
    """

    name: str
    joints: tuple[str, ...]
    limbs: tuple[tuple[str, str], ...]
    sigmas: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(set(self.joints)) != len(self.joints) or not self.joints:
            raise ValueError(f"skeleton {self.name!r}: joint names must be distinct and not empty: {self.joints}")
        if len(self.sigmas) != len(self.joints):
            raise ValueError(f"skeleton {self.name!r}: {len(self.joints)} joints but {len(self.sigmas)} sigmas")
        if not all(s > 0 for s in self.sigmas):
            raise ValueError(f"skeleton {self.name!r}: sigmas must be positive: {self.sigmas}")
        for limb in self.limbs:
            for joint in limb:
                if joint not in self.joints:
                    raise ValueError(f"skeleton {self.name!r}: limb {limb} names an unknown joint {joint!r}")
        for joint in self.joints:
            if _mirrored(joint) not in self.joints:
                raise ValueError(f"skeleton {self.name!r}: {joint!r} has no mirror joint {_mirrored(joint)!r}")

    def __len__(self) -> int:
        return len(self.joints)

    @cached_property
    def index(self) -> dict[str, int]:
        """Joint name -> row."""
        return {joint: i for i, joint in enumerate(self.joints)}

    @cached_property
    def mirror(self) -> tuple[int, ...]:
        """Permutation that swaps left and right: row i of a mirrored picture is row mirror[i] of the original."""
        return tuple(self.index[_mirrored(joint)] for joint in self.joints)

    @cached_property
    def limb_rows(self) -> tuple[tuple[int, int], ...]:
        """Limbs as pairs of rows."""
        return tuple((self.index[a], self.index[b]) for a, b in self.limbs)

    @cached_property
    def parts(self) -> dict[str, tuple[int, ...]]:
        """Rows of the joints of the upper and the lower body and of their left and right sides, by the joints' names.

        In this order: upper, lower, upper_left, upper_right, lower_left, lower_right. Joints in the middle are on both
        sides; a part may be empty.
        """
        low = {joint: any(word in joint for word in LOWER) for joint in self.joints}
        halves = {half: [j for j in self.joints if low[j] == (half == "lower")] for half in ("upper", "lower")}
        sides = {
            f"{half}_{side}": [j for j in joints if self.side(j) in (side, "middle")]
            for half, joints in halves.items()
            for side in ("left", "right")
        }
        return {part: tuple(self.index[j] for j in joints) for part, joints in (halves | sides).items()}

    def side(self, joint: str) -> str:
        """`"left"`, `"right"` or `"middle"`."""
        other = _mirrored(joint)
        return "middle" if other == joint else ("left" if "left" in joint else "right")

    def to_dict(self) -> dict[str, Any]:
        """The skeleton as plain JSON values; `from_dict` reads it back."""
        limbs = [list(limb) for limb in self.limbs]
        return {"name": self.name, "joints": list(self.joints), "limbs": limbs, "sigmas": list(self.sigmas)}

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> Skeleton:
        """Build from `name`, `joints`, `limbs` and optional `sigmas` (default 0.072, the COCO mean)."""
        if not isinstance(fields, dict) or not isinstance(fields.get("joints"), list):
            raise ValueError("a skeleton needs a list `joints` (and may have `name`, `limbs`, `sigmas`)")
        joints = tuple(str(j) for j in fields["joints"])
        limbs = fields.get("limbs") or []
        if not all(isinstance(limb, (list, tuple)) and len(limb) == 2 for limb in limbs):
            raise ValueError(f"skeleton limbs must be pairs of joint names, got {limbs!r}")
        sigmas = fields.get("sigmas") or [0.072] * len(joints)
        pairs = tuple((str(a), str(b)) for a, b in limbs)
        return cls(str(fields.get("name", "custom")), joints, pairs, tuple(float(s) for s in sigmas))

    @classmethod
    def from_yaml(cls, path: str | Path) -> Skeleton:
        """Read a skeleton from a YAML file with `name`, `joints`, `limbs`, `sigmas`; `ValueError` names the file."""
        import yaml

        try:
            return cls.from_dict(yaml.safe_load(Path(path).read_text()))
        except OSError as error:
            raise ValueError(f"cannot read skeleton {path}: {error.strerror}") from error
        except (yaml.YAMLError, ValueError, TypeError) as error:
            raise ValueError(f"{path} is not a skeleton: {error}") from error


def _sided(*joints: str) -> tuple[str, ...]:
    return tuple(f"{side}_{joint}" for joint in joints for side in ("left", "right"))


def _chains(*chains: str) -> tuple[tuple[str, str], ...]:
    """Limbs from chains such as "hip knee ankle", on both sides."""
    limbs = []
    for chain in chains:
        parts = chain.split()
        for a, b in itertools.pairwise(parts):
            limbs += [(f"{s}_{a}", f"{s}_{b}") for s in ("left", "right")]
    return tuple(limbs)


COCO17 = Skeleton(
    "coco17",
    ("nose", *_sided("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle")),
    (
        *(("nose", f"{s}_eye") for s in ("left", "right")),
        *_chains("eye ear shoulder elbow wrist", "shoulder hip knee ankle"),
        ("left_shoulder", "right_shoulder"),
        ("left_hip", "right_hip"),
    ),
    (0.026, 0.025, 0.025, 0.035, 0.035, 0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087)
    + (0.089, 0.089),
)  # Lin et al., COCO keypoint challenge
CROWDPOSE14 = Skeleton(
    "crowdpose14",
    (*_sided("shoulder", "elbow", "wrist", "hip", "knee", "ankle"), "head", "neck"),
    (
        ("head", "neck"),
        ("neck", "left_shoulder"),
        ("neck", "right_shoulder"),
        ("left_shoulder", "right_shoulder"),
        ("left_hip", "right_hip"),
        *_chains("shoulder elbow wrist", "shoulder hip knee ankle"),
    ),
    (0.079, 0.079, 0.072, 0.072, 0.062, 0.062, 0.107, 0.107, 0.087, 0.087, 0.089, 0.089, 0.079, 0.079),
)  # Li et al., CrowdPose (CVPR 2019)
MPII16 = Skeleton(
    "mpii16",
    ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis", "thorax")
    + ("upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow")
    + ("left_wrist",),
    (
        ("head_top", "upper_neck"),
        ("upper_neck", "thorax"),
        ("thorax", "pelvis"),
        *((("thorax", f"{s}_shoulder")) for s in ("left", "right")),
        *((("pelvis", f"{s}_hip")) for s in ("left", "right")),
        *_chains("shoulder elbow wrist", "hip knee ankle"),
    ),
    (0.089, 0.083, 0.107, 0.107, 0.083, 0.089, 0.026, 0.026, 0.026, 0.026, 0.062, 0.072, 0.179, 0.179, 0.072, 0.062),
)  # Andriluka et al., MPII (CVPR 2014); MPII defines no OKS, these are MMPose's constants
LSP14 = Skeleton(
    "lsp14",
    ("right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle")
    + ("right_wrist", "right_elbow", "right_shoulder", "left_shoulder", "left_elbow", "left_wrist")
    + ("neck", "head_top"),
    (
        ("head_top", "neck"),
        ("neck", "left_shoulder"),
        ("neck", "right_shoulder"),
        ("left_hip", "right_hip"),
        *_chains("shoulder elbow wrist", "shoulder hip knee ankle"),
    ),
    (0.089, 0.087, 0.107, 0.107, 0.087, 0.089, 0.062, 0.072, 0.079, 0.079, 0.072, 0.062, 0.079, 0.079),
)  # Johnson & Everingham, LSP (BMVC 2010); sigmas are those of the same joints in COCO and CrowdPose
SKELETONS = {s.name: s for s in (COCO17, CROWDPOSE14, MPII16, LSP14)}
