"""MPII Human Pose (Andriluka et al., CVPR 2014): 16 joints, split and JSON of Tompson et al. that everybody trains on.

`annot/{train,valid,trainval,test}.json` list people: `image`, `joints` (16, 2), `joints_vis` (16), `center` and `scale`
(the person's height over 200 pixels). All coordinates there count from 1, as MATLAB does; edgepose counts from 0, so 1
is subtracted. `annot/gt_valid.mat` holds the head rectangles and missing joints that PCKh is measured with.

The labels say which joints exist, not which are hidden. They have no boxes and outlines: boxes are the squares of the
benchmark's crops before their padding of 1.25 (side 200 x scale, centre moved down by 15 x scale; HRNet), areas are
0.28 of the squared height, the median over 303 COCO people of area over squared longer side.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.data import Record, open_pictures
from edgepose.data._size import picture_size
from edgepose.poses import Poses
from edgepose.skeleton import MPII16

SKELETON = MPII16
SPLITS = {"train": "train", "val": "valid", "trainval": "trainval", "test": "test"}
HEAD = 0.6  # head size over the diagonal of the head rectangle (the benchmark's SC_BIAS)
AREA = 0.28


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split, from `annot/` and `images/`; `ValueError` names what is missing.

    The head sizes of `val` need scipy; other splits have none. `test` has no labels: its people are in `others`.
    """
    if split not in SPLITS:
        raise ValueError(f"MPII has no split {split!r}; known: {', '.join(SPLITS)}")
    root = Path(root)
    path = root / "annot" / f"{SPLITS[split]}.json"
    try:
        people = json.loads(path.read_text())
    except OSError as error:
        raise ValueError(f"cannot read the labels {path}: {error.strerror}") from error
    heads, missing = _heads(root / "annot" / "gt_valid.mat", len(people)) if split == "val" else (None, None)
    rows: dict[str, list[int]] = {}
    for row, person in enumerate(people):
        rows.setdefault(person["image"], []).append(row)
    picture, records = open_pictures(root, "images"), []
    for number, (name, mine) in enumerate(rows.items(), 1):
        here = [people[row] for row in mine]
        scale = np.array([p["scale"] for p in here], np.float32)
        centre = np.array([p["center"] for p in here], np.float32) - 1
        centre[:, 1] += 15 * scale
        boxes = np.concatenate([centre - 100 * scale[:, None], centre + 100 * scale[:, None]], 1)
        areas = AREA * (200 * scale) ** 2
        size = picture_size(root / "images" / name)
        if split == "test":
            others = tuple(_unlabelled(box, float(a)) for box, a in zip(boxes, areas, strict=True))
            records.append(Record(number, name, size, picture(name), Poses.empty(SKELETON), areas[:0], others=others))
            continue
        xy = np.array([p["joints"] for p in here], np.float32) - 1
        there = np.array([p["joints_vis"] for p in here]) > 0 if missing is None else missing[mine] == 0
        truth = Poses(xy, there.astype(np.float32), SKELETON, ids=np.array(mine), boxes=boxes)
        sizes = None if heads is None else heads[mine]
        records.append(Record(number, name, size, picture(name), truth, areas, heads=sizes))
    return records


def score(records: Sequence[Record], results: list[dict[str, Any]]) -> dict[str, float]:
    """PCKh of `results` (rows in COCO's results format); `ValueError` without head sizes."""
    if any(r.heads is None for r in records):
        raise ValueError("PCKh needs head sizes: put gt_valid.mat into annot/ and measure on the split val")
    from edgepose.data._pck import pckh

    return pckh(records, results)


def _unlabelled(box: NDArray[np.float32], area: float) -> dict[str, Any]:
    x0, y0, x1, y1 = (float(v) for v in box)
    return {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": area, "iscrowd": 0, "segmentation": []}


def _heads(path: Path, people: int) -> tuple[NDArray[np.float32] | None, NDArray | None]:
    """Head sizes (people,) in pixels and missing joints (people, 16) of gt_valid.mat; None where there is no file."""
    if not path.is_file():
        return None, None
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ValueError(f'reading {path.name} needs scipy: pip install "edgepose[train]" ({error})') from error
    table = loadmat(str(path))
    corners, missing = table["headboxes_src"], table["jnt_missing"].T  # (2, 2, people), (people, 16)
    if len(missing) != people:
        raise ValueError(f"{path} is about {len(missing)} people, valid.json about {people}: they are of two releases")
    return HEAD * np.linalg.norm(corners[1] - corners[0], axis=0).astype(np.float32), missing
