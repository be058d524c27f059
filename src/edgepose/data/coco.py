"""COCO keypoints (Lin et al., ECCV 2014): 17 joints, JSON with `images` and `annotations`, as the 2017 files unpack."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.codecs import Image
from edgepose.data import BOX_AREA, Record, open_pictures
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, Skeleton

SKELETON = COCO17
SPLITS = {  # split -> (labels, folder or tar files of the pictures), under the root
    "train": ("annotations/person_keypoints_train2017.json", "train2017"),
    "val": ("annotations/person_keypoints_val2017.json", "val2017"),
    "test-dev": ("annotations/image_info_test-dev2017.json", "test2017"),  # pictures without labels
    "small": ("coco_small.json", "coco_small"),
    "train115": ("coco_train115.json", "coco_train115"),
}
KEPT = ("id", "bbox", "area", "iscrowd", "segmentation")  # of crowds and of people without labelled joints


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split, with those that have no labelled person; `ValueError` names what is missing."""
    if split not in SPLITS:
        raise ValueError(f"COCO has no split {split!r}; known: {', '.join(SPLITS)}")
    labels, pictures = SPLITS[split]
    return read_json(Path(root) / labels, pictures, Path(root))


def score(records: Sequence[Record], results: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's ten figures of `results` (rows in COCO's results format)."""
    from edgepose.data._oks import average_precision

    return average_precision(records, results, crowd=False)


def read_json(
    path: Path, pictures: str, root: Path, skeleton: Skeleton = SKELETON, sparse: bool = False
) -> list[Record]:
    """Records of a file in COCO's keypoint format, with the pictures of `root/pictures` or `root/pictures*.tar`."""
    return to_records(load(path), open_pictures(root, pictures), skeleton, sparse)


def load(path: Path) -> dict[str, Any]:
    """A label file in COCO's format; `ValueError` in one line if it cannot be read or is something else."""
    try:
        labels = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read the labels {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(labels, dict) or not isinstance(labels.get("images"), list):
        raise ValueError(f"{path} is not in COCO's format: it has no list `images`")
    for what, key in (("images", "id"), ("annotations", "image_id")):
        bad = next(
            (n for n, row in enumerate(labels.get(what) or ()) if not isinstance(row, dict) or key not in row), None
        )
        if bad is not None:
            raise ValueError(f"{path}: number {bad} of `{what}` has no {key!r}")
    return labels


def to_records(
    labels: dict[str, Any],
    picture: Callable[[str], Callable[[], Image]],
    skeleton: Skeleton,
    sparse: bool = False,
    categories: Collection[int] | None = None,
    box_areas: bool = False,
) -> list[Record]:
    """Records of labels in COCO's format; crowds and people without labelled joints are kept in `others`.

    picture: gives the reader of a file name. categories: ids of the people's categories, by default all. box_areas:
    areas are 0.53 of the box even where the labels give one. Missing `bbox`, `area` and `num_keypoints` are derived.
    """
    people: dict[int, list[dict]] = {}
    others: dict[int, list[dict]] = {}
    for a in labels.get("annotations", ()):
        if categories is None or a.get("category_id") in categories:
            count = a["num_keypoints"] if "num_keypoints" in a else sum(v > 0 for v in a.get("keypoints", ())[2::3])
            where = others if a.get("iscrowd") or not count else people
            where.setdefault(a["image_id"], []).append(a)
    return [
        _record(i, people.get(i["id"], []), others.get(i["id"], []), picture, skeleton, sparse, box_areas)
        for i in labels["images"]
    ]


def _record(
    i: dict[str, Any],
    mine: list[dict],
    others: list[dict],
    picture: Callable[[str], Callable[[], Image]],
    skeleton: Skeleton,
    sparse: bool,
    box_areas: bool,
) -> Record:
    for key in ("width", "height", "file_name"):
        if key not in i:
            raise ValueError(f"picture {i.get('file_name', i.get('id'))} of the labels has no {key!r}")
    for a in mine:
        if len(a.get("keypoints", ())) != 3 * len(skeleton):
            found = f"{len(a.get('keypoints', ()))} numbers for its joints"
            raise ValueError(f"a person in {i['file_name']} has {found}; {skeleton.name} needs {3 * len(skeleton)}")
    table = np.array([a["keypoints"] for a in mine], np.float32).reshape(len(mine), len(skeleton), 3)
    visible = table[..., 2].astype(np.uint8)
    boxes = np.array([a["bbox"] if "bbox" in a else joint_box(t) for a, t in zip(mine, table, strict=True)], np.float32)
    boxes = boxes.reshape(-1, 4)
    derived = BOX_AREA * boxes[:, 2] * boxes[:, 3]
    given = [a.get("area", d) for a, d in zip(mine, derived, strict=True)]
    areas = derived if box_areas else np.array(given, np.float32)
    boxes[:, 2:] += boxes[:, :2]
    ids = np.array([a["id"] for a in mine], np.int64) if all(isinstance(a.get("id"), int) for a in mine) else None
    truth = Poses(table[..., :2], (visible > 0).astype(np.float32), skeleton, ids=ids, boxes=boxes)
    kept = tuple({key: a[key] for key in KEPT if key in a} for a in others)
    size, name = (i["width"], i["height"]), i["file_name"]
    return Record(i["id"], name, size, picture(name), truth, areas, sparse, visible, kept, crowd=i.get("crowdIndex"))


def joint_box(table: np.ndarray) -> list[float]:
    """The box x, y, w, h around the labelled joints of (J, 3) x, y, v."""
    seen = table[table[:, 2] > 0, :2]
    return [*map(float, seen.min(0)), *map(float, np.ptp(seen, axis=0))] if len(seen) else [0.0, 0.0, 0.0, 0.0]
