"""The side file: what a format cannot hold, kept as COCO JSON in `edgepose-SPLIT.json` beside the labels."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edgepose.formats import Box, Joint, Labels, Person, Picture, coco, writable
from edgepose.results import write_whole

NEAR = 0.011  # pixels: CVAT writes two decimals


def keep(labels: Labels, out: Path, split: str) -> Path:
    """Write the side file and return its path."""
    path = out / f"edgepose-{split}.json"
    write_whole(path, json.dumps(coco.to_json(labels)).encode())
    return path


def kept(folder: Path, split: str) -> Labels | None:
    """The labels of the side file in `folder`, or None without one."""
    path = folder / f"edgepose-{split}.json"
    return coco.read(path, split) if path.is_file() else None


def restore(found: Labels, before: Labels | None) -> Labels:
    """`found`, with what its format could not hold from `before`, which was written to it.

    A person is the same if its id is, or if joints and box are where they were; an unchanged one gets its exact numbers
    back, a changed one keeps `found`'s. Crowds and people without a place come back; people who are gone stay gone.
    """
    if before is None or before.joints != found.joints:
        return found
    old = {p.name: p for p in before.pictures}
    pictures = tuple(_picture(p, old[p.name]) if p.name in old else p for p in found.pictures)
    return replace(before, pictures=pictures, label=found.label, limbs=found.limbs or before.limbs)


def _picture(found: Picture, before: Picture) -> Picture:
    if found.size != before.size:
        return replace(found, id=before.id, rest=before.rest)
    left = [p for p in before.people if writable(p)]
    people: list[tuple[int, Person]] = []
    for person in found.people:
        match = next((p for p in left if person.id is not None and p.id == person.id), None)
        match = match or next((p for p in left if _same(p, person, before.size)), None)
        if match is not None:
            left.remove(match)
            same = _same(match, person, before.size)
            person = match if same else replace(person, id=match.id, rest=_without_shape(match))
        people.append((before.people.index(match) if match else len(before.people), person))
    lost = [(n, p) for n, p in enumerate(before.people) if not writable(p)]
    order = sorted([*people, *lost], key=lambda pair: pair[0])
    return replace(before, people=tuple(p for _, p in order))


def _without_shape(person: Person) -> dict:
    return {k: v for k, v in person.rest.items() if k not in ("area", "segmentation")}  # of the old joints


def _same(a: Person, b: Person, size: tuple[int, int]) -> bool:
    if [j[2] for j in a.joints] != [j[2] for j in b.joints]:
        return False
    if not all(_near(p[:2], q[:2], size) for p, q in zip(a.joints, b.joints, strict=True)):
        return False
    return a.place is None or b.place is None or _near(_corners(a.place), _corners(b.place), size)


def _corners(box: Box) -> tuple[float, ...]:
    return box[0], box[1], box[0] + box[2], box[1] + box[3]


def _near(a: Sequence[float], b: Sequence[float], size: tuple[int, int]) -> bool:
    """Whether x, y, x, y, ... agree once they are inside the picture, where some formats put everything."""
    pairs = ((inside(p, size[i % 2]), inside(q, size[i % 2])) for i, (p, q) in enumerate(zip(a, b, strict=True)))
    return all(abs(p - q) < NEAR for p, q in pairs)


def inside(value: float, limit: float) -> float:
    """`value`, at least 0 and at most `limit`."""
    return min(max(value, 0.0), float(limit))


def rounded(joints: Sequence[Joint]) -> tuple[Joint, ...]:
    """Joints to the ten-thousandth of a pixel, for formats with other units."""
    return tuple((round(x, 4), round(y, 4), v) for x, y, v in joints)
