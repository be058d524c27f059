"""Label Studio JSON: a rectangle a person, key points that name it as their parent, all in percent of the picture.

`tasks.json` is what Label Studio imports into a project with the labelling interface `config.xml`; exports in the
format JSON are read. A hidden joint carries the note "hidden" (`meta.text`), because key points have no visibility
there; one that is not labelled is not there. Label Studio does not hold areas, outlines, crowds, limbs and sigmas:
these are in the side file.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree as Xml

from edgepose.data._names import sided
from edgepose.formats import Joint, Labels, Person, Picture, _side, joint, one_file, writable
from edgepose.results import write_whole
from edgepose.skeleton import SKELETONS

WHAT = "Label Studio JSON"
SERVED = "/data/local-files/?d="  # Label Studio's address of files on its own disk


def read(source: Path, split: str, pictures: Path | None = None) -> Labels:
    """Labels of tasks.json; joints in the order of config.xml beside it, of a known skeleton, or of first use."""
    path = one_file(source, "tasks.json")
    try:
        tasks = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(tasks, list) or not all(isinstance(t, dict) and "data" in t for t in tasks):
        raise ValueError(f"{path} is not a list of tasks: export the project in the format JSON (not JSON-MIN)")
    before = _side.kept(path.parent, split)
    results = [_results(task) for task in tasks]
    label, joints = _names(path.parent / "config.xml", results, before)
    if not joints:
        raise ValueError(f"{path} has no key points")
    sizes = {p.name: p.size for p in before.pictures} if before else {}
    found = [_picture(t["data"], r, joints, sizes, path) for t, r in zip(tasks, results, strict=True)]
    return _side.restore(Labels(joints, (), tuple(found), label), before)


def _results(task: dict[str, Any]) -> list[dict[str, Any]]:
    """The regions of the last annotation that was not cancelled, or of the first prediction."""
    done = [a for a in task.get("annotations") or () if not a.get("was_cancelled")]
    given = done[-1:] or (task.get("predictions") or [])[:1]
    return list(given[0].get("result") or ()) if given else []


def _names(config: Path, results: list[list[dict]], before: Labels | None) -> tuple[str, tuple[str, ...]]:
    if config.is_file():
        root = Xml.parse(config).getroot()
        points = [e.get("value", "") for tag in root.iter("KeyPointLabels") for e in tag.iter("Label")]
        boxes = [e.get("value", "") for tag in root.iter("RectangleLabels") for e in tag.iter("Label")]
        return next(iter(boxes), "person"), tuple(points)
    if before is not None:
        return before.label, before.joints
    regions = [r for result in results for r in result]
    used = dict.fromkeys(name for r in regions for name in (r.get("value") or {}).get("keypointlabels", ()))
    boxes = [name for r in regions for name in (r.get("value") or {}).get("rectanglelabels", ())]
    order = next((s.index for s in SKELETONS.values() if {sided(name) for name in used} == set(s.joints)), None)
    return next(iter(boxes), "person"), tuple(sorted(used, key=lambda name: order[sided(name)]) if order else used)


def _name(data: dict[str, Any]) -> str:
    """The picture's name: the one written by `write`, else from its address, without the prefix of uploads."""
    if "name" in data:
        return str(data["name"])
    address = str(data.get("image") or next(iter(data.values()), ""))
    parts = urlsplit(address)
    name = parse_qs(parts.query).get("d", [unquote(parts.path)])[0]
    name = name.split("images/", 1)[1] if "images/" in name else name.rsplit("/", 1)[-1]
    return re.sub(r"^[0-9a-f]{8}-", "", name)


def _picture(data: dict, result: list[dict], joints: tuple[str, ...], sizes: dict, path: Path) -> Picture:
    name = _name(data)
    said = next(((r["original_width"], r["original_height"]) for r in result if "original_width" in r), None)
    size = said or ((data["width"], data["height"]) if {"width", "height"} <= data.keys() else sizes.get(name))
    if size is None:
        raise ValueError(f"{path}: the size of {name} is not known (no region has original_width)")
    w, h = int(size[0]), int(size[1])
    boxes = {r["id"]: r["value"] for r in result if r.get("type") == "rectanglelabels"}
    links = {r["to_id"]: r["from_id"] for r in result if r.get("type") == "relation"}
    links |= {r["from_id"]: r["to_id"] for r in result if r.get("type") == "relation" and r["to_id"] in boxes}
    tables: dict[str, dict[str, Joint]] = {box: {} for box in boxes}
    for r in result:
        if r.get("type") != "keypointlabels":
            continue
        parent = r.get("parentID") or links.get(r["id"]) or (next(iter(boxes)) if len(boxes) == 1 else "")
        mine, kind = tables.setdefault(parent, {}), r["value"]["keypointlabels"][0]
        if kind in mine and not parent:
            raise ValueError(f"{path}: {name} has several {kind!r} without a person: put them under a rectangle")
        hidden = "hidden" in [str(t).strip().lower() for t in (r.get("meta") or {}).get("text", ())]
        mine[kind] = joint(r["value"]["x"] * w / 100, r["value"]["y"] * h / 100, 1 if hidden else 2)
    people = []
    for key, table in tables.items():
        box = None
        if key in boxes:
            v, scale = boxes[key], (w / 100, h / 100, w / 100, h / 100)
            box = tuple(round(v[k] * s, 4) for k, s in zip(("x", "y", "width", "height"), scale, strict=True))
        number = re.fullmatch(r"person-(-?\d+)", key)
        rows = _side.rounded([table.get(j, (0.0, 0.0, 0)) for j in joints])
        people.append(Person(rows, box, int(number[1]) if number else None))  # type: ignore[arg-type]
    return Picture(name, (w, h), tuple(people))


def write(labels: Labels, out: Path, split: str) -> list[Path]:
    """Write tasks.json, the labelling interface config.xml and the side file."""
    tasks = []
    for picture in labels.pictures:
        w, h = picture.size
        regions = [r for n, p in enumerate(picture.people) if writable(p) for r in _regions(p, n, labels, w, h)]
        data = {"image": SERVED + f"images/{picture.name}", "name": picture.name, "width": w, "height": h}
        tasks.append({"data": data, "annotations": [{"result": regions}]})
    write_whole(out / "tasks.json", json.dumps(tasks, indent=1).encode())
    write_whole(out / "config.xml", _config(labels))
    return [out / "tasks.json", out / "config.xml", _side.keep(labels, out, split)]


def _regions(person: Person, row: int, labels: Labels, w: int, h: int) -> list[dict[str, Any]]:
    assert person.place is not None
    key = f"row-{row}" if person.id is None else f"person-{person.id}"
    x, y, bw, bh = person.place
    same = {"to_name": "image", "original_width": w, "original_height": h, "image_rotation": 0}
    value = {"x": 100 * x / w, "y": 100 * y / h, "width": 100 * bw / w, "height": 100 * bh / h, "rotation": 0}
    value |= {"rectanglelabels": [labels.label]}
    regions = [{"id": key, "type": "rectanglelabels", "from_name": "box", **same, "value": value}]
    for j, (name, (px, py, v)) in enumerate(zip(labels.joints, person.joints, strict=True)):
        if v:
            at = {"x": 100 * px / w, "y": 100 * py / h, "width": 0.5, "keypointlabels": [name]}
            point = {"id": f"{key}-{j}", "type": "keypointlabels", "from_name": "joint", "parentID": key, **same}
            regions.append({**point, "value": at} | ({"meta": {"text": ["hidden"]}} if v == 1 else {}))
    return regions


def _config(labels: Labels) -> bytes:
    """The labelling interface; `model_index` is the order that Label Studio's own YOLO export wants."""
    view = Xml.Element("View")
    Xml.SubElement(view, "Image", name="image", value="$image")
    boxes = Xml.SubElement(view, "RectangleLabels", name="box", toName="image")
    Xml.SubElement(boxes, "Label", value=labels.label)
    points = Xml.SubElement(view, "KeyPointLabels", name="joint", toName="image")
    for number, name in enumerate(labels.joints):
        Xml.SubElement(points, "Label", value=name, model_index=str(number))
    Xml.indent(view)
    return Xml.tostring(view, "utf-8")
