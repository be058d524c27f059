"""COCO keypoints JSON: holds everything. `OUT/SPLIT.json`, as `edgepose.data.custom` reads it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgepose.data import BOX_AREA
from edgepose.data.coco import load
from edgepose.data.custom import LABELS, people
from edgepose.formats import Labels, Person, Picture, joint, one_file
from edgepose.results import write_whole

WHAT = "COCO keypoints JSON"
OWN = {"id", "image_id", "keypoints", "bbox", "num_keypoints"}  # fields of an annotation that a Person has itself


def read(source: Path, split: str, pictures: Path | None = None) -> Labels:
    """Labels of a JSON file, or of the JSON of `split` in a folder."""
    path = one_file(source, *(name.format(split) for name in LABELS))
    return from_json(load(path), path)


def from_json(table: dict[str, Any], path: Path) -> Labels:
    """Labels of a parsed file; `path` is for messages."""
    categories = people(table, path)
    ids, first = {c.get("id") for c in categories}, categories[0]
    joints = tuple(str(name) for name in first["keypoints"])
    of: dict[int, list[Person]] = {}
    others = []
    for a in table.get("annotations", ()):
        if a.get("category_id") in ids:
            of.setdefault(a["image_id"], []).append(_person(a, len(joints), path))
        else:
            others.append(a)
    found = [_picture(i, tuple(of.get(i["id"], ())), path) for i in table["images"]]
    rest = {k: v for k, v in table.items() if k not in ("images", "annotations", "categories")}
    rest["category"] = {k: v for k, v in first.items() if k not in ("name", "keypoints", "skeleton", "sigmas")}
    rest["categories"] = [c for c in table["categories"] if c is not first]
    rest["annotations"] = others
    limbs = tuple((int(a) - 1, int(b) - 1) for a, b in first.get("skeleton") or ())
    sigmas = tuple(first["sigmas"]) if first.get("sigmas") else None
    return Labels(joints, limbs, tuple(found), str(first.get("name", "person")), sigmas, rest)


def _person(a: dict[str, Any], joints: int, path: Path) -> Person:
    flat = a.get("keypoints") or [0] * (3 * joints)
    if len(flat) != 3 * joints:
        raise ValueError(f"{path}: annotation {a.get('id')} has {len(flat)} numbers for {joints} joints")
    table = tuple(joint(*flat[i : i + 3]) for i in range(0, len(flat), 3))
    box = tuple(float(v) for v in a["bbox"]) if a.get("bbox") else None
    rest = {k: v for k, v in a.items() if k not in OWN}
    return Person(table, box, a.get("id"), rest)  # type: ignore[arg-type]


def _picture(i: dict[str, Any], found: tuple[Person, ...], path: Path) -> Picture:
    if not {"file_name", "width", "height"} <= i.keys():
        raise ValueError(f"{path}: picture {i.get('file_name', i.get('id'))} lacks file_name, width or height")
    rest = {k: v for k, v in i.items() if k not in ("id", "file_name", "width", "height")}
    return Picture(str(i["file_name"]), (int(i["width"]), int(i["height"])), found, i["id"], rest)


def to_json(labels: Labels) -> dict[str, Any]:
    """The file as JSON values. Ids that are missing, or taken, are new ones."""
    rest = dict(labels.rest)
    kept = rest.pop("category", {})
    category = {"id": 1, **kept, "name": labels.label, "keypoints": list(labels.joints)}
    category["skeleton"] = [[a + 1, b + 1] for a, b in labels.limbs]
    if labels.sigmas is not None:
        category["sigmas"] = list(labels.sigmas)
    categories, others = [category, *rest.pop("categories", ())], rest.pop("annotations", [])
    pictures = _numbered([p.id for p in labels.pictures], set())
    ids = _numbered([p.id for i in labels.pictures for p in i.people], {a.get("id") for a in others})
    images, annotations, at = [], [], iter(ids)
    for number, picture in zip(pictures, labels.pictures, strict=True):
        w, h = picture.size
        images.append({"id": number, "file_name": picture.name, "width": w, "height": h, **picture.rest})
        for person in picture.people:
            box = [float(v) for v in person.place or (0.0, 0.0, 0.0, 0.0)]
            flat = [v for j in person.joints for v in j]
            row = {"id": next(at), "image_id": number, "category_id": category["id"], "iscrowd": 0}
            row |= {"keypoints": flat, "num_keypoints": sum(j[2] > 0 for j in person.joints), "bbox": box}
            annotations.append(row | {"area": BOX_AREA * box[2] * box[3]} | dict(person.rest))
    return {**rest, "images": images, "annotations": [*annotations, *others], "categories": categories}


def _numbered(ids: list[int | None], taken: set[Any]) -> list[int]:
    """The ids, with new ones where they are missing or come again."""
    out, used = [], set(taken)
    fresh = max([i for i in [*ids, *used] if isinstance(i, int)], default=0) + 1
    for i in ids:
        if i is None or i in used:
            i, fresh = fresh, fresh + 1
        used.add(i)
        out.append(i)
    return out


def write(labels: Labels, out: Path, split: str) -> list[Path]:
    """Write `OUT/SPLIT.json`; returns the files."""
    write_whole(out / f"{split}.json", json.dumps(to_json(labels)).encode())
    return [out / f"{split}.json"]
