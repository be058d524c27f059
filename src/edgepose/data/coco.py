"""COCO keypoints (Lin et al., ECCV 2014): 17 joints, JSON with `images` and `annotations`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from edgepose.data import Record, open_pictures
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, Skeleton

SKELETON = COCO17
SPLITS = {  # split -> (labels, folder or tar files of the pictures), under the root
    "train": ("annotations/person_keypoints_train2017.json", "train2017"),
    "val": ("annotations/person_keypoints_val2017.json", "val2017"),
    "small": ("coco_small.json", "coco_small"),
    "train115": ("coco_train115.json", "coco_train115"),
}


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split, with those that have no labelled person; `ValueError` names what is missing."""
    if split not in SPLITS:
        raise ValueError(f"COCO has no split {split!r}; known: {', '.join(SPLITS)}")
    labels, pictures = SPLITS[split]
    return read_json(Path(root) / labels, pictures, Path(root))


def read_json(
    path: Path, pictures: str, root: Path, skeleton: Skeleton = SKELETON, sparse: bool = False
) -> list[Record]:
    """Records of a file in COCO's keypoint format; crowds and people without labelled joints are left out."""
    try:
        labels = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read the labels {path}: {error.strerror}") from error
    people: dict[int, list[dict]] = {}
    for a in labels["annotations"]:
        if not a.get("iscrowd") and a.get("num_keypoints", 0) > 0:
            people.setdefault(a["image_id"], []).append(a)
    picture = open_pictures(root, pictures)
    records = []
    for i in labels["images"]:
        mine = people.get(i["id"], [])
        table = np.array([a["keypoints"] for a in mine], np.float32).reshape(len(mine), len(skeleton), 3)
        boxes = np.array([a["bbox"] for a in mine], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        truth = Poses(table[..., :2], (table[..., 2] > 0).astype(np.float32), skeleton, boxes=boxes)
        areas = np.array([a["area"] for a in mine], np.float32)
        size = (i["width"], i["height"])
        records.append(Record(i["id"], i["file_name"], size, picture(i["file_name"]), truth, areas, sparse))
    return records
