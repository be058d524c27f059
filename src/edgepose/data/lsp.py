"""LSP-Extended (Johnson & Everingham, CVPR 2011) with COCO's 17 joints: one labelled person a photograph.

The labels are noisy. Each person of the file carries `agree`, the mean distance between the human labels of the limbs
and a teacher network's, over the person's longer side; people above `AGREE` are left out. `cluster` groups
near-duplicate photographs, so splits are made by cluster.
"""

from __future__ import annotations

import json
from pathlib import Path

from edgepose.data import Record
from edgepose.data.coco import read_json
from edgepose.skeleton import COCO17

SKELETON = COCO17
AGREE = 0.13
SPLITS = {"train": "clusters not divisible by 20", "val": "clusters divisible by 20"}


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split, read from `lspet.json` and the folder or tar files `lspet`."""
    if split not in SPLITS:
        raise ValueError(f"LSP-Extended has no split {split!r}; known: {', '.join(SPLITS)}")
    path = Path(root) / "lspet.json"
    records = read_json(path, "lspet", Path(root), SKELETON, sparse=True)
    labels = json.loads(path.read_text())
    good = {a["image_id"] for a in labels["annotations"] if a["agree"] <= AGREE}
    held = {i["id"] for i in labels["images"] if i["cluster"] % 20 == 0}
    return [r for r in records if r.id in good and (r.id in held) == (split == "val")]
