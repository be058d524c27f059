"""Leeds Sports Pose: one labelled person a photograph.

`train` and `val` are LSP-Extended (Johnson & Everingham, CVPR 2011) with COCO's 17 joints. The labels are noisy. Each
person of the file carries `agree`, the mean distance between the human labels of the limbs and a teacher network's,
over the person's longer side; people above `AGREE` are left out. `cluster` groups near-duplicate photographs, so splits
are made by cluster.

`lsp14-train` and `lsp14-test` are the first and the last thousand photographs of the original set (BMVC 2010) with its
own 14 joints: `joints.mat`, (3, 14, 2000) x, y and 1 for a hidden joint, counted from 1, and `images/im0001.jpg` on.
Every joint has a label there, even outside the picture. Boxes go round the joints; areas are 0.83 of them, the median
of 181 COCO people with ten joints or more.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.data import Record, open_pictures
from edgepose.data._size import picture_size
from edgepose.data.coco import load, to_records
from edgepose.poses import Poses
from edgepose.skeleton import COCO17, LSP14

SKELETON = COCO17
AGREE = 0.13
AREA = 0.83
SPLITS = {
    "train": "clusters not divisible by 20",
    "val": "clusters divisible by 20",
    "lsp14-train": "im0001 to im1000",
    "lsp14-test": "im1001 to im2000",
}


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split, from `lspet.json` and `lspet` (folder or tar files), or `joints.mat` and `images`."""
    if split not in SPLITS:
        raise ValueError(f"LSP-Extended has no split {split!r}; known: {', '.join(SPLITS)}")
    root = Path(root)
    if split.startswith("lsp14"):
        return _original(root, range(1, 1001) if split == "lsp14-train" else range(1001, 2001))
    labels = load(root / "lspet.json")
    records = to_records(labels, open_pictures(root, "lspet"), SKELETON, sparse=True)
    good = {a["image_id"] for a in labels["annotations"] if a["agree"] <= AGREE}
    held = {i["id"] for i in labels["images"] if i["cluster"] % 20 == 0}
    return [r for r in records if r.id in good and (r.id in held) == (split == "val")]


def score(records: Sequence[Record], results: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's ten figures, or PCK for the original 14 joints, of `results` (rows in COCO's results format)."""
    if records and records[0].truth.skeleton == LSP14:
        from edgepose.data._pck import pck

        return pck(records, results)
    from edgepose.data._oks import average_precision

    return average_precision(records, results, crowd=False)


def _original(root: Path, numbers: range) -> list[Record]:
    try:
        from scipy.io import loadmat
    except ImportError as error:
        raise ValueError(f'reading joints.mat needs scipy: pip install "edgepose[train]" ({error})') from error
    path = root / "joints.mat"
    if not path.is_file():
        raise ValueError(f"cannot read the labels {path}: no such file")
    table = np.asarray(loadmat(str(path))["joints"], np.float32)
    if table.shape[:2] != (3, 14) or table.shape[2] < numbers[-1]:
        raise ValueError(f"{path} has joints of shape {table.shape}, LSP's are (3, 14, 2000); is it LSP-Extended's?")
    picture, records = open_pictures(root, "images"), []
    for number in numbers:
        name = f"im{number:04}.jpg"
        xy, hidden = table[:2, :, number - 1].T[None] - 1, table[None, 2, :, number - 1] > 0.5
        box = np.concatenate([xy.min(1), xy.max(1)], 1)
        truth = Poses(xy, np.ones((1, 14), np.float32), LSP14, ids=np.array([number]), boxes=box)
        area = AREA * np.prod(box[:, 2:] - box[:, :2], axis=1)
        visible = np.where(hidden, 1, 2).astype(np.uint8)
        size = picture_size(root / "images" / name)
        records.append(Record(number, name, size, picture(name), truth, area, visible=visible))
    return records
