"""CrowdPose (Li et al., CVPR 2019): 14 joints, 20,000 photographs of crowds, COCO's JSON with a `crowdIndex` a picture.

The labels have no outlines. The benchmark measures people by 0.53 of their box, and nothing is masked in training
(HigherHRNet, LitePose).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepose.data import Record, open_pictures
from edgepose.data.coco import load, to_records
from edgepose.skeleton import CROWDPOSE14

SKELETON = CROWDPOSE14
SPLITS = {split: f"json/crowdpose_{split}.json" for split in ("train", "val", "trainval", "test")}


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split, from `json/` and `images/`; `trainval` is put together if its file is missing."""
    if split not in SPLITS:
        raise ValueError(f"CrowdPose has no split {split!r}; known: {', '.join(SPLITS)}")
    root = Path(root)
    if split == "trainval" and not (root / SPLITS[split]).is_file():
        return read(root, "train") + read(root, "val")
    records = to_records(load(root / SPLITS[split]), open_pictures(root, "images"), SKELETON, box_areas=True)
    return [replace(r, others=tuple({**o, "segmentation": []} for o in r.others)) for r in records]


def score(records: Sequence[Record], results: list[dict[str, Any]]) -> dict[str, float]:
    """AP and AR of `results` (rows in COCO's results format), and AP of the easy, medium and hard pictures."""
    from edgepose.data._oks import average_precision

    return average_precision(records, results, crowd=True)
