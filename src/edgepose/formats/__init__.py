"""Label formats: one file each, with WHAT, `read(source, split, pictures) -> Labels` and `write(labels, out, split)`.

A format that cannot hold everything leaves `edgepose-SPLIT.json` beside its files (see `_side.py`), from which `read`
puts back what was lost of the people that nobody changed in the meantime.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

Joint = tuple[float, float, int]  # x, y in image pixels, v: 0 not labelled (x, y are 0 then), 1 hidden, 2 in sight
Box = tuple[float, float, float, float]  # x, y, width, height in image pixels


@dataclass(frozen=True)
class Person:
    """One labelled person. rest: further fields of COCO's format, such as `area`, `iscrowd`, `segmentation`."""

    joints: tuple[Joint, ...]
    box: Box | None = None
    id: int | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)

    @property
    def crowd(self) -> bool:
        """Whether this is a region with many people."""
        return bool(self.rest.get("iscrowd"))

    @property
    def place(self) -> Box | None:
        """The box, or the box around the labelled joints, or None if there is neither."""
        seen = [(x, y) for x, y, v in self.joints if v > 0]
        if self.box is not None or not seen:
            return self.box
        (x0, y0), (x1, y1) = map(min, zip(*seen, strict=True)), map(max, zip(*seen, strict=True))
        return x0, y0, x1 - x0, y1 - y0


@dataclass(frozen=True)
class Picture:
    """One picture: file name, (w, h) in pixels, people. rest: further fields of COCO's format."""

    name: str
    size: tuple[int, int]
    people: tuple[Person, ...] = ()
    id: int | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Labels:
    """The labels of some pictures.

    joints: names as they were written. limbs: pairs of rows. sigmas: of the object keypoint similarity, or None. label:
    what the people are called. rest: what else a COCO file says (`info`, `licenses`, other categories and annotations).
    """

    joints: tuple[str, ...]
    limbs: tuple[tuple[int, int], ...]
    pictures: tuple[Picture, ...]
    label: str = "person"
    sigmas: tuple[float, ...] | None = None
    rest: Mapping[str, Any] = field(default_factory=dict)


def joint(x: float, y: float, v: float) -> Joint:
    """A joint with numbers in their simplest form, 0, 0, 0 if it is not labelled; `ValueError` for another v."""
    if v not in (0, 1, 2):
        raise ValueError(f"the visibility of a joint is 0, 1 or 2, got {v!r}")
    return (float(x), float(y), int(v)) if v else (0.0, 0.0, 0)


def writable(person: Person) -> bool:
    """Whether formats other than COCO's can hold the person at all: not a crowd, and somewhere."""
    return not person.crowd and person.place is not None


def safe(name: str) -> PurePosixPath:
    """A picture's name as a path below a folder; `ValueError` for one that leads out of it."""
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or not path.name or ":" in path.parts[0]:
        raise ValueError(f"the picture name {name!r} leads out of its folder")
    return path


def one_file(source: Path, *names: str) -> Path:
    """`source` if it is a file, else the first of `names` in that folder; `ValueError` if there is none."""
    found = [source] if source.is_file() else [source / name for name in names if (source / name).is_file()]
    if not found:
        raise ValueError(f"no labels in {source}: looked for {', '.join(names)}")
    return found[0]
