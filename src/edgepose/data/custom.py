"""Your own photographs, labelled in COCO's JSON format with whatever joints.

    ROOT/train.json, val.json            or annotations/train.json, or annotations/person_keypoints_train.json
    ROOT/images/...                      or images/train/..., or train/...
    ROOT/skeleton.yaml                   optional: name, joints, limbs, sigmas

Without `skeleton.yaml` the joints are those of the people's category: `keypoints` (names), `skeleton` (limbs, as rows
from 1) and, where it has them, `sigmas`. Pictures are turned upright by their EXIF orientation, because labelling tools
show them so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepose.data import Record, open_pictures
from edgepose.data._names import custom_skeleton
from edgepose.data.coco import load, to_records
from edgepose.skeleton import Skeleton

SKELETON = None
SPLITS = {"train": "train.json", "val": "val.json", "test": "test.json"}  # and any other name whose JSON is there
LABELS = ("{}.json", "annotations/{}.json", "annotations/person_keypoints_{}.json")
PICTURES = ("images", "images/{}", "{}", ".")


def read(root: str | Path, split: str) -> list[Record]:
    """The photographs of a split; `ValueError` names what is missing."""
    root = Path(root)
    found = [root / name.format(split) for name in LABELS if (root / name.format(split)).is_file()]
    if not found:
        raise ValueError(f"no labels for {split!r} in {root}: looked for {', '.join(n.format(split) for n in LABELS)}")
    labels = load(found[0])
    categories = people(labels, found[0])
    yaml = root / "skeleton.yaml"
    skeleton = Skeleton.from_yaml(yaml) if yaml.is_file() else category_skeleton(categories[0], found[0])
    listed = {i["id"] for i in labels["images"]}
    lost = [a["image_id"] for a in labels.get("annotations") or () if a["image_id"] not in listed]
    if lost:
        raise ValueError(f"{found[0]} labels {len(lost)} people of pictures it does not list (image_id {lost[0]!r})")
    names = [str(i.get("file_name")) for i in labels["images"]]
    folders = [name.format(split) for name in PICTURES if (root / name.format(split)).is_dir()]
    where = next((f for f in folders if any((root / f / name).is_file() for name in names[:20])), folders[0])
    ids = {int(c["id"]) for c in categories}
    return to_records(labels, open_pictures(root, where, upright=True), skeleton, categories=ids)


def score(records: Sequence[Record], results: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's ten figures of `results` (rows in COCO's results format)."""
    from edgepose.data._oks import average_precision

    return average_precision(records, results, crowd=False)


def people(labels: dict[str, Any], path: Path) -> list[dict[str, Any]]:
    """The categories with joints: the one called `person` where there is one; `ValueError` if they differ or lack."""
    having = [c for c in labels.get("categories", ()) if c.get("keypoints")]
    having = [c for c in having if c.get("name") == "person"] or having
    if not having:
        raise ValueError(f"{path} has no category with `keypoints`: list the joint names there, or add skeleton.yaml")
    if len({tuple(c["keypoints"]) for c in having}) > 1:
        names = ", ".join(str(c.get("name")) for c in having)
        raise ValueError(f"{path} has categories with different joints ({names}); call the people's one `person`")
    return having


def category_skeleton(category: dict[str, Any], path: Path) -> Skeleton:
    """The skeleton that a COCO category says; `ValueError` names the file."""
    limbs = [(int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ()]
    try:
        skeleton = custom_skeleton(str(category.get("name", "custom")), [str(j) for j in category["keypoints"]], limbs)
        sigmas = tuple(float(s) for s in category.get("sigmas") or skeleton.sigmas)
        return skeleton if sigmas == skeleton.sigmas else replace(skeleton, sigmas=sigmas)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
