"""CVAT for images 1.1 (XML): a skeleton and a box a person, held together by a group; the id is an attribute.

`annotations.xml` is what CVAT imports into a task whose labels were made from `labels.json` (Raw, in the label editor).
CVAT finds pictures by name, wants every joint of a skeleton (`outside` where it is not labelled), and writes two
decimals. It does not hold picture ids, areas, outlines, crowds and sigmas: these are in the side file.
"""

from __future__ import annotations

import html
import json
import math
import re
from pathlib import Path
from xml.etree import ElementTree as Xml

from edgepose.formats import Joint, Labels, Person, Picture, _side, joint, one_file, writable
from edgepose.results import write_whole

WHAT = "CVAT for images 1.1"


def read(source: Path, split: str, pictures: Path | None = None) -> Labels:
    """Labels of annotations.xml: skeletons, or points that share a group, with the boxes of the same group."""
    path = one_file(source, "annotations.xml")
    try:
        root = Xml.parse(path).getroot()
    except Xml.ParseError as error:
        raise ValueError(f"{path} is not XML: {error}") from error
    if root.tag != "annotations" or root.find("image") is None:
        kind = "tracks of a video" if root.find("track") is not None else "no pictures"
        raise ValueError(f"{path} has {kind}: export it from CVAT as `CVAT for images 1.1`")
    label, joints, limbs = _skeleton(root, path)
    found = tuple(_picture(image, joints) for image in root.iter("image"))
    return _side.restore(Labels(joints, limbs, found, label), _side.kept(path.parent, split))


def _skeleton(root: Xml.Element, path: Path) -> tuple[str, tuple[str, ...], tuple[tuple[int, int], ...]]:
    """Name, joints and limbs of the skeleton label, or the point labels in order where there is none."""
    labels = list(root.iter("label"))
    text = lambda e, tag: (e.findtext(tag) or "").strip()  # noqa: E731
    skeletons = [e for e in labels if text(e, "type") == "skeleton"]
    if not skeletons:
        used = list(dict.fromkeys(p.get("label", "") for p in root.iter("points")))
        names = [text(e, "name") for e in labels if text(e, "name") in used]
        if not used:
            raise ValueError(f"{path} has neither skeletons nor points")
        return "person", tuple(names + [name for name in used if name not in names]), ()
    first = next((e for e in skeletons if text(e, "name") == "person"), skeletons[0])
    name, svg = text(first, "name"), text(first, "svg")
    nodes = dict(_attributes(c, "data-node-id", "data-label-name") for c in re.findall("<circle[^>]*>", svg))
    children = [text(e, "name") for e in labels if text(e, "parent") == name]
    joints = [nodes[n] for n in sorted(nodes, key=lambda n: int(n or 0)) if nodes[n] in children] or children
    joints += [child for child in children if child not in joints]
    ends = [_attributes(c, "data-node-from", "data-node-to") for c in re.findall("<line[^>]*>", svg)]
    limbs = [(joints.index(nodes[a]), joints.index(nodes[b])) for a, b in ends if nodes.get(a) and nodes.get(b)]
    return name, tuple(joints), tuple(limbs)


def _attributes(tag: str, first: str, second: str) -> tuple[str, str]:
    a, b = (re.search(rf'\b{name}="([^"]*)"', tag) for name in (first, second))
    return html.unescape(a[1]) if a else "", html.unescape(b[1]) if b else ""


def _picture(image: Xml.Element, joints: tuple[str, ...]) -> Picture:
    boxes = {b.get("group_id"): b for b in image.findall("box") if b.get("group_id", "0") != "0"}
    people, groups = [], dict[str, dict[str, Joint]]()
    for skeleton in image.findall("skeleton"):
        given = {p.get("label", ""): _point(p) for p in skeleton.findall("points")}
        number = next((a.text or "" for a in skeleton.findall("attribute") if a.get("name") == "id"), "")
        person = int(number) if re.fullmatch(r"-?\d+", number.strip()) else None
        people.append(_person(given, joints, boxes.pop(skeleton.get("group_id"), None), person))
    for point in image.findall("points"):
        groups.setdefault(point.get("group_id", "0"), {})[point.get("label", "")] = _point(point)
    people += [_person(given, joints, boxes.pop(group, None), None) for group, given in groups.items()]
    size = (int(image.get("width", 0)), int(image.get("height", 0)))
    return Picture(image.get("name", ""), size, tuple(people))


def _point(element: Xml.Element) -> Joint:
    x, y = (float(v) for v in element.get("points", "0,0").split(";")[0].split(","))
    v = 0 if element.get("outside") == "1" else 1 if element.get("occluded") == "1" else 2
    return joint(x, y, v)


def _person(given: dict[str, Joint], joints: tuple[str, ...], box: Xml.Element | None, number: int | None) -> Person:
    table = tuple(given.get(name, (0.0, 0.0, 0)) for name in joints)
    if box is None:
        return Person(table, None, number)
    x0, y0, x1, y1 = (float(box.get(key, "0")) for key in ("xtl", "ytl", "xbr", "ybr"))
    return Person(table, (x0, y0, round(x1 - x0, 6), round(y1 - y0, 6)), number)


def write(labels: Labels, out: Path, split: str) -> list[Path]:
    """Write annotations.xml, labels.json for the task, and the side file."""
    root = Xml.Element("annotations")
    _text(root, "version", "1.1")
    task = Xml.SubElement(Xml.SubElement(root, "meta"), "task")
    _text(task, "name", split)
    _text(task, "size", str(len(labels.pictures)))
    _text(task, "mode", "annotation")
    spec, element = _labels(labels), Xml.SubElement(task, "labels")
    for label in spec:
        parts = [{**part, "parent": label["name"]} for part in label.get("sublabels", ())]
        for part in (label, *parts):
            one = Xml.SubElement(element, "label")
            _text(one, "name", part["name"])
            _text(one, "type", part["type"])
            _attribute_specs(Xml.SubElement(one, "attributes"), part["attributes"])
            for key in ("svg", "parent"):
                if key in part:
                    _text(one, key, part[key])
    for number, picture in enumerate(labels.pictures):
        w, h = picture.size
        image = Xml.SubElement(root, "image", id=str(number), name=picture.name, width=str(w), height=str(h))
        for group, person in enumerate([p for p in picture.people if writable(p)], 1):
            _write_person(image, person, labels, str(group))
    Xml.indent(root)
    text = Xml.tostring(root, "utf-8", xml_declaration=True)
    write_whole(out / "annotations.xml", text)
    write_whole(out / "labels.json", json.dumps(spec, indent=1).encode())
    return [out / "annotations.xml", out / "labels.json", _side.keep(labels, out, split)]


def _write_person(image: Xml.Element, person: Person, labels: Labels, group: str) -> None:
    assert person.place is not None
    x, y, w, h = person.place
    same = {"source": "file", "occluded": "0", "z_order": "0", "group_id": group}
    skeleton = Xml.SubElement(image, "skeleton", {"label": labels.label, **same})
    if person.id is not None:
        Xml.SubElement(skeleton, "attribute", name="id").text = str(person.id)
    for name, (px, py, v) in zip(labels.joints, person.joints, strict=True):
        at = f"{px!r},{py!r}" if v else f"{x + w / 2:.2f},{y + h / 2:.2f}"
        flags = {"outside": str(int(v == 0)), "occluded": str(int(v == 1))}
        Xml.SubElement(skeleton, "points", {"label": name, "source": "file", **flags, "points": at})
    if person.box is not None:
        corners = {"xtl": repr(x), "ytl": repr(y), "xbr": repr(x + w), "ybr": repr(y + h)}
        Xml.SubElement(image, "box", {"label": f"{labels.label} box", **same, **corners})


def _labels(labels: Labels) -> list[dict]:
    """The labels of a task, as CVAT's label editor takes them under Raw."""
    number = {"name": "id", "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    parts = [{"name": name, "type": "points", "attributes": []} for name in labels.joints]
    skeleton = {"name": labels.label, "type": "skeleton", "attributes": [number], "sublabels": parts}
    box = {"name": f"{labels.label} box", "type": "rectangle", "attributes": []}
    return [{**skeleton, "svg": _svg(labels)}, box]


def _svg(labels: Labels) -> str:
    """The drawing CVAT makes new skeletons from: the first complete person, or a circle."""
    count = len(labels.joints)
    turn = [2 * math.pi * i / count for i in range(count)]
    at = [(50 + 40 * math.sin(t), 50 - 40 * math.cos(t)) for t in turn]
    whole = [p for i in labels.pictures for p in i.people if all(j[2] for j in p.joints)]
    if whole:
        xs, ys = [j[0] for j in whole[0].joints], [j[1] for j in whole[0].joints]
        span = max(max(xs) - min(xs), max(ys) - min(ys)) or 1.0
        at = [(10 + 80 * (x - min(xs)) / span, 10 + 80 * (y - min(ys)) / span) for x, y in zip(xs, ys, strict=True)]
    lines = [
        f'<line x1="{at[a][0]:.2f}" y1="{at[a][1]:.2f}" x2="{at[b][0]:.2f}" y2="{at[b][1]:.2f}" stroke="black" '
        f'data-type="edge" data-node-from="{a + 1}" stroke-width="0.5" data-node-to="{b + 1}"></line>'
        for a, b in labels.limbs
    ]
    dots = [
        f'<circle r="1.5" stroke="black" fill="#b3b3b3" cx="{x:.2f}" cy="{y:.2f}" stroke-width="0.1" '
        f'data-type="element node" data-element-id="{i}" data-node-id="{i}" '
        f'data-label-name="{html.escape(name)}"></circle>'
        for i, ((x, y), name) in enumerate(zip(at, labels.joints, strict=True), 1)
    ]
    return "".join(lines + dots)


def _attribute_specs(parent: Xml.Element, specs: list[dict]) -> None:
    for spec in specs:
        one = Xml.SubElement(parent, "attribute")
        _text(one, "name", spec["name"])
        _text(one, "mutable", str(spec["mutable"]))
        _text(one, "input_type", spec["input_type"])
        _text(one, "default_value", spec["default_value"])
        _text(one, "values", "\n".join(spec["values"]))


def _text(parent: Xml.Element, tag: str, text: str) -> None:
    Xml.SubElement(parent, tag).text = text
