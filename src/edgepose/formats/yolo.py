"""YOLO pose (Ultralytics): `data.yaml`, `labels/SPLIT/NAME.txt`, as `edgepose.data.yolo` reads them.

It holds boxes, joints and v, as shares of the picture with everything inside it. It does not hold limbs and sigmas,
which go to `skeleton.yaml`, and ids, areas, outlines, crowds, sizes and what lies outside a picture, which go to
the side file.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepose.data import yolo as layouts
from edgepose.data._names import custom_skeleton
from edgepose.data._size import picture_size
from edgepose.formats import Labels, Person, Picture, _side, joint, safe, writable
from edgepose.results import write_whole

WHAT = "YOLO pose folder"


def read(source: Path, split: str, pictures: Path | None = None) -> Labels:
    """Labels of a folder with data.yaml. Sizes are those of the pictures, in the folder or in `pictures`, else of the
    side file; `ValueError` names a picture whose size is not known."""
    layout = layouts.layout_of(source)
    before = _side.kept(layout.folder, split)
    sizes = {p.name: p.size for p in before.pictures} if before else {}
    found = []
    for name, label in _files(layout, split, sizes, pictures):
        own = layout.folder / "images" / split / name
        file = next((p for p in (own, pictures / name if pictures else None) if p and p.is_file()), None)
        if file is None and name not in sizes:
            raise ValueError(f"the size of {name} is not known: name the folder with the pictures (--pictures)")
        w, h = picture_size(file, upright=True) if file else sizes[name]
        found.append(Picture(name, (w, h), _people(label, layout, w, h)))
    fields, names = layout.fields.get("kpt_names"), before.joints if before else None
    if names is None or fields is not None:
        names = _joint_names(layout, fields)
    label = (layout.fields.get("names") or {0: "person"})[layout.person or 0]
    return _side.restore(Labels(names, (), tuple(found), str(label)), before)


def _joint_names(layout: layouts.Layout, fields: Any) -> tuple[str, ...]:
    if isinstance(fields, dict):
        fields = fields.get(layout.person or 0) or next(iter(fields.values()))
    return tuple(str(n) for n in fields) if fields else layouts.skeleton_of(layout).joints


def _files(layout: layouts.Layout, split: str, sizes: dict[str, Any], pictures: Path | None) -> list[tuple[str, Path]]:
    """(picture name below its folder, label file) of the pictures that are there, or of the side file or `pictures`."""
    try:
        paths = layouts.pictures(layout, split)
    except ValueError:
        paths = []
    base = layout.folder / "images" / split
    if paths:
        name = lambda p: p.relative_to(base).as_posix() if p.is_relative_to(base) else p.name  # noqa: E731
        return [(name(p), layouts.label_file(p)) for p in paths]
    if not sizes and pictures is None:
        raise ValueError(f"no pictures for {split!r} below {layout.folder}: name their folder (--pictures)")
    there = (
        sorted(p for p in (pictures or base).rglob("*") if p.suffix.lower() in layouts.SUFFIXES) if not sizes else []
    )
    names = list(sizes) or [p.relative_to(pictures or base).as_posix() for p in there]
    return [(n, layout.folder / "labels" / split / safe(n).with_suffix(".txt")) for n in names]


def _people(label: Path, layout: layouts.Layout, w: int, h: int) -> tuple[Person, ...]:
    classes, boxes, joints = layouts.rows(label, layout)
    out = []
    for kind, (cx, cy, bw, bh), table in zip(classes, boxes.tolist(), joints.tolist(), strict=True):
        if layout.person is None or kind == layout.person:
            box = tuple(round(v, 4) for v in ((cx - bw / 2) * w, (cy - bh / 2) * h, bw * w, bh * h))
            out.append(Person(_side.rounded([joint(x * w, y * h, v) for x, y, v in table]), box))  # type: ignore[arg-type]
    return tuple(out)


def write(labels: Labels, out: Path, split: str) -> list[Path]:
    """Write data.yaml, a text file per picture and the side file; other splits of an existing data.yaml stay."""
    import yaml

    files: dict[Path, str] = {}
    for picture in labels.pictures:
        path = out / "labels" / split / safe(picture.name).with_suffix(".txt")
        if path in files:
            raise ValueError(f"two pictures would share the label file {path.name}; rename {picture.name}")
        files[path] = "".join(_line(p, *picture.size) for p in picture.people if writable(p))
    mirror, skeleton = tuple(range(len(labels.joints))), None
    with contextlib.suppress(ValueError):  # of a name with a side but no partner
        skeleton = custom_skeleton(labels.label, labels.joints, labels.limbs)
        skeleton, mirror = replace(skeleton, sigmas=labels.sigmas or skeleton.sigmas), skeleton.mirror
    fields: dict[str, Any] = {"path": ".", split: f"images/{split}", "kpt_shape": [len(labels.joints), 3]}
    fields |= {"flip_idx": list(mirror), "names": {0: labels.label}, "kpt_names": {0: list(labels.joints)}}
    before = yaml.safe_load((out / "data.yaml").read_text()) if (out / "data.yaml").is_file() else None
    if isinstance(before, dict):
        fields = {k: v for k, v in before.items() if k in layouts.SPLITS} | fields
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, text.encode())
    if skeleton is not None:
        text = yaml.safe_dump(skeleton.to_dict(), sort_keys=False, allow_unicode=True)
        write_whole(out / "skeleton.yaml", text.encode())
    write_whole(out / "data.yaml", yaml.safe_dump(fields, sort_keys=False, allow_unicode=True).encode())
    return [out / "data.yaml", out / "labels" / split, _side.keep(labels, out, split)]


def _line(person: Person, w: int, h: int) -> str:
    assert person.place is not None
    x, y, bw, bh = person.place
    x0, y0, x1, y1 = (_side.inside(v, s) for v, s in zip((x, y, x + bw, y + bh), (w, h, w, h), strict=True))
    numbers = [(x0 + x1) / 2 / w, (y0 + y1) / 2 / h, (x1 - x0) / w, (y1 - y0) / h]
    for px, py, v in person.joints:
        numbers += [_side.inside(px, w) / w, _side.inside(py, h) / h, v]
    return "0 " + " ".join(f"{number:.10g}" for number in numbers) + "\n"
