"""Your own photographs in YOLO's pose layout (Ultralytics): `data.yaml`, and a text file of labels beside each picture.

    ROOT/data.yaml                       path, train, val, kpt_shape, flip_idx, names, kpt_names
    ROOT/images/train/a.jpg              the label file has the same name, with `labels` for the last `images`
    ROOT/labels/train/a.txt              a person a line: class, box centre x y, width, height, then x y v of each joint
    ROOT/skeleton.yaml                   optional: name, joints, limbs, sigmas

All numbers are shares of the upright picture's width and height (Ultralytics turns pictures by their EXIF orientation).
Joints are named by `skeleton.yaml`, by `kpt_names`, or are COCO's where there are 17; `flip_idx` says what is mirrored.
A picture without label file has no people; one that cannot be decoded raises when it is read. Areas are 0.53 of the
box, as Ultralytics takes them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.data import BOX_AREA, Record, open_pictures
from edgepose.data._names import custom_skeleton
from edgepose.data._size import picture_size
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, Skeleton

SKELETON = None
SPLITS = {"train": "train", "val": "val", "test": "test"}  # key of data.yaml
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


@dataclass(frozen=True)
class Layout:
    """What data.yaml says: folder, pictures by split, joint count, 2 or 3 numbers a joint, class of the people."""

    folder: Path
    fields: Mapping[str, Any]
    joints: int
    dims: int
    person: int | None  # None: every class is a person


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split; `root` is the folder with data.yaml, or that file. `ValueError` names the trouble."""
    layout = layout_of(Path(root))
    skeleton, records = skeleton_of(layout), []
    picture = open_pictures(layout.folder, ".", upright=True)
    for number, path in enumerate(pictures(layout, split), 1):
        name = str(path.relative_to(layout.folder)) if path.is_relative_to(layout.folder) else str(path)
        try:
            size = picture_size(path, upright=True)
        except ValueError:  # `record.read` says so, and `edgepose data check` lists all of them
            records.append(Record(number, name, (1, 1), picture(name), Poses.empty(skeleton), np.zeros(0, np.float32)))
            continue
        classes, boxes, joints = rows(label_file(path), layout)
        mine = np.full(len(classes), True) if layout.person is None else classes == layout.person
        boxes, joints = boxes[mine] * np.tile(size, 2), joints[mine] * np.array([*size, 1])
        labelled = joints[..., 2].any(1)
        areas = BOX_AREA * boxes[:, 2] * boxes[:, 3]
        boxes = np.concatenate([boxes[:, :2] - boxes[:, 2:] / 2, boxes[:, :2] + boxes[:, 2:] / 2], 1)
        visible = np.clip(np.ceil(joints[labelled, :, 2]), 0, 2).astype(np.uint8)
        xy, seen = joints[labelled, :, :2].astype(np.float32), (visible > 0).astype(np.float32)
        truth = Poses(xy, seen, skeleton, boxes=boxes[labelled].astype(np.float32))
        others = tuple(
            {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": 0}
            for (x0, y0, x1, y1), area in zip(boxes[~labelled].tolist(), areas[~labelled].tolist(), strict=True)
        )
        kept = areas[labelled].astype(np.float32)
        records.append(Record(number, name, size, picture(name), truth, kept, visible=visible, others=others))
    return records


def score(records: Sequence[Record], results: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's ten figures of `results` (rows in COCO's results format)."""
    from edgepose.data._oks import average_precision

    return average_precision(records, results, crowd=False)


def layout_of(root: Path) -> Layout:
    """Read data.yaml, or the only YAML file with `kpt_shape` in the folder `root`."""
    import yaml

    files = [root] if root.is_file() else [root / "data.yaml", *sorted([*root.glob("*.yaml"), *root.glob("*.yml")])]
    for file in files:
        try:
            fields = yaml.safe_load(file.read_text()) if file.is_file() else None
        except yaml.YAMLError as error:
            raise ValueError(f"{file} is not YAML: {' '.join(str(error).split())}") from error
        if isinstance(fields, dict) and "kpt_shape" in fields:
            break
    else:
        raise ValueError(f"no data.yaml with `kpt_shape` in {root}")
    shape = fields["kpt_shape"]
    if not isinstance(shape, (list, tuple)) or len(shape) != 2 or shape[1] not in (2, 3) or int(shape[0]) < 1:
        raise ValueError(f"{file}: kpt_shape is [joints, 2 or 3], got {shape!r}")
    folder = file.parent / str(fields.get("path") or ".")  # here: beside the file; Ultralytics: in its own folder
    names = fields.get("names") or {}
    names = dict(enumerate(names)) if isinstance(names, list) else {int(k): str(v) for k, v in names.items()}
    person = next((k for k, name in names.items() if name == "person"), None)
    return Layout((folder if folder.is_dir() else file.parent).resolve(), fields, int(shape[0]), shape[1], person)


def skeleton_of(layout: Layout) -> Skeleton:
    """The joints of skeleton.yaml, of `kpt_names`, of COCO where there are 17, else `joint_0`...; sides by flip_idx."""
    file = layout.folder / "skeleton.yaml"
    given, flip = layout.fields.get("kpt_names"), layout.fields.get("flip_idx")
    if isinstance(given, Mapping):  # class -> names
        given = given.get(layout.person or 0) or next(iter(given.values()))
    if file.is_file():
        skeleton = Skeleton.from_yaml(file)
    elif given is None and layout.joints == 17 and tuple(flip or COCO17.mirror) == COCO17.mirror:
        skeleton = COCO17
    else:
        names = given or [f"joint_{i}" for i in range(layout.joints)]
        skeleton = custom_skeleton("yolo", [str(joint) for joint in names], (), flip)
    if len(skeleton) != layout.joints:
        raise ValueError(f"kpt_shape says {layout.joints} joints, {skeleton.name} has {len(skeleton)}")
    return skeleton


def pictures(layout: Layout, split: str) -> list[Path]:
    """The picture files of a split: of folders, of text files that list them, or of several of either."""
    places = layout.fields.get(split)
    if not places:
        raise ValueError(f"data.yaml names no pictures for {split!r}")
    found: list[Path] = []
    for place in [places] if isinstance(places, str) else places:
        path = layout.folder / str(place)
        if path.is_dir():
            found += sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES)
        elif path.is_file():
            found += [layout.folder / line.strip() for line in path.read_text().splitlines() if line.strip()]
        else:
            raise ValueError(f"data.yaml names {path} for {split!r}, which is not there")
    return [Path(p) for p in found]


def label_file(picture: Path) -> Path:
    """The label file of a picture: the last folder `images` of its path is `labels`, the suffix `.txt`."""
    parts = list(picture.with_suffix(".txt").parts)
    for i in range(len(parts) - 2, -1, -1):
        if parts[i] == "images":
            parts[i] = "labels"
            break
    return Path(*parts)


def rows(path: Path, layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Classes (N,), boxes (N, 4) centre x, y, w, h and joints (N, J, 3) x, y, v of a label file, in shares.

    With two numbers a joint, v is 2, and 0 where x or y is negative or both are 0. `ValueError` names the line.
    """
    width = 5 + layout.joints * layout.dims
    table = []
    for number, line in enumerate(path.read_text().splitlines() if path.is_file() else (), 1):
        if not line.split():
            continue
        try:
            table.append([float(v) for v in line.split()])
        except ValueError:
            raise ValueError(f"{path}, line {number}: {line.strip()[:40]!r} is not numbers") from None
        if len(table[-1]) != width:
            raise ValueError(f"{path}, line {number}: {len(table[-1])} numbers, kpt_shape asks for {width}")
    whole = np.array(table, np.float64).reshape(-1, width)
    joints: NDArray[np.float64] = whole[:, 5:].reshape(len(whole), layout.joints, layout.dims)
    if layout.dims == 2:
        there = np.all(joints >= 0, -1) & np.any(joints, -1)
        joints = np.concatenate([joints, np.where(there, 2.0, 0.0)[..., None]], 2)
    return whole[:, 0].astype(np.int64), whole[:, 1:5], joints
