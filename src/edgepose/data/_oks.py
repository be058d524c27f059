"""Average precision by the object keypoint similarity: COCO's figures (Lin et al., ECCV 2014) and CrowdPose's.

The counting is faster-coco-eval's, which agrees with the official pycocotools to the last digit. Crowds and people
without labelled joints (`Record.others`) are ignored as there: a detection that matches one counts neither for nor
against the model. At most 20 detections a photograph count, the surest first.
"""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.data import Record

NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")
CROWD_NAMES = ("AP", "AP50", "AP75", "AR", "AR50", "AR75", "AP_easy", "AP_medium", "AP_hard")
EASY, HARD = 0.2, 0.8  # crowd index below and from which a photograph is easy and hard, as in CrowdPose's official code
THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 20  # detections a photograph that count


def coco_truth(records: Sequence[Record]) -> dict[str, Any]:
    """Labelled people, crowds and people without labelled joints in COCO's keypoint format."""
    people: list[dict[str, Any]] = []
    for record in records:
        truth, seen = record.truth, record.truth.scores > 0
        table = np.concatenate([truth.xy * seen[..., None], 2.0 * seen[..., None]], 2)
        boxes = np.zeros((len(truth), 4)) if truth.boxes is None else truth.boxes.astype(float)
        boxes[:, 2:] -= boxes[:, :2]
        rows = table.reshape(len(truth), 3 * len(truth.skeleton)).tolist()
        count, areas = seen.sum(1).tolist(), np.asarray(record.areas, float).tolist()
        for keypoints, labelled, box, area in zip(rows, count, boxes.tolist(), areas, strict=True):
            person = {"image_id": record.id, "iscrowd": 0, "area": area, "bbox": box}
            people.append({**person, "num_keypoints": labelled, "keypoints": keypoints})
        people += [{"image_id": record.id, **ignored(record, other)} for other in record.others]
    annotations = [{"id": i, "category_id": 1, **person} for i, person in enumerate(people, 1)]
    images = [{"id": r.id, "width": r.size[0], "height": r.size[1], "file_name": r.name} for r in records]
    return {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "person"}]}


def ignored(record: Record, other: Mapping[str, Any]) -> dict[str, Any]:
    """One of `Record.others` with all that COCO's evaluation looks at; what is not there is derived, or 0."""
    x, y, w, h = (float(v) for v in other.get("bbox") or (0, 0, 0, 0))
    size = 3 * len(record.truth.skeleton)
    keypoints = [float(v) for v in other.get("keypoints", ())]
    keypoints = keypoints if len(keypoints) == size else [0.0] * size
    fields = {"iscrowd": int(other.get("iscrowd", 0)), "bbox": [x, y, w, h], "keypoints": keypoints}
    labelled = int(other.get("num_keypoints", sum(v > 0 for v in keypoints[2::3])))
    return {**fields, "area": float(other.get("area", 0.53 * w * h)), "num_keypoints": labelled}


def average_precision(
    records: Sequence[Record], results: Sequence[Mapping[str, Any]], crowd: bool = False
) -> dict[str, float]:
    """The ten figures of COCO (`NAMES`), or with `crowd` the nine of CrowdPose (`CROWD_NAMES`).

    results: rows of COCO's results format (`image_id`, `keypoints` (x, y, score) x J, `score`). CrowdPose takes the
    square of a person's scale to be 0.53 of the box; photographs are easy, medium or hard by their crowd index (below
    0.2, to 0.8, from 0.8: the limits in the official code; the paper's text says 0.1).
    -1 where nobody is labelled; all 0 when `results` is empty. `ValueError` for rows that do not fit the records.
    """
    check(records, results)
    names = CROWD_NAMES if crowd else NAMES
    bare = [r.name for r in records if crowd and len(r.truth) and r.truth.boxes is None]
    if bare:
        raise ValueError(f"CrowdPose measures people by their boxes, and those of {bare[0]} have none")
    if not results:
        return dict.fromkeys(names, 0.0)
    precision, recall = curves(records, results, crowd)
    sizes = () if crowd else (1, 2)
    figures = [_mean(precision[..., 0]), _mean(precision[0, :, 0]), _mean(precision[5, :, 0])]
    figures += [_mean(precision[..., size]) for size in sizes]
    figures += [_mean(recall[:, 0]), _mean(recall[0, 0]), _mean(recall[5, 0])]
    figures += [_mean(recall[:, size]) for size in sizes]
    if crowd:
        index = [math.nan if r.crowd is None else r.crowd for r in records]
        for low, high in ((-math.inf, EASY), (EASY, HARD), (HARD, math.inf)):
            part = [r for r, c in zip(records, index, strict=True) if low <= c < high]
            figures.append(_mean(curves(part, results, crowd)[0][..., 0]))
    return dict(zip(names, figures, strict=True))


def curves(
    records: Sequence[Record], results: Sequence[Mapping[str, Any]], crowd: bool = False
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precision (10, 101, 3) at the 10 `THRESHOLDS` and at recall 0, 0.01, ... 1, and the highest recall (10, 3).

    The last axis is people of all sizes, medium, large; -1 where nobody is labelled.
    """
    ids = {r.id for r in records}
    every = all("bbox" in row for row in results)
    keys = ("image_id", "keypoints", "score", *(("bbox",) if every else ()))  # `bbox` only sets a detection's size
    rows = [{"category_id": 1, **{k: row[k] for k in keys}} for row in results if row["image_id"] in ids]
    if not records:
        return -np.ones((10, 101, 3)), -np.ones((10, 3))
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(coco_truth(records))
        judge = COCOeval_faster(truth, truth.loadRes(rows), "keypoints", use_area=not crowd)
        judge.params.kpt_oks_sigmas = np.array(records[0].truth.skeleton.sigmas)
        judge.params.catIds = [1]
        judge.evaluate()
        judge.accumulate()
    return np.asarray(judge.eval["precision"])[:, :, 0, :, 0], np.asarray(judge.eval["recall"])[:, 0, :, 0]


def _mean(values: NDArray[np.float64]) -> float:
    there = values[values > -1]
    return float(there.mean()) if there.size else -1.0


def check(records: Sequence[Record], results: Sequence[Mapping[str, Any]]) -> None:
    """`ValueError` in one line unless every row of `results` is a person of one of the `records`."""
    if not records:
        raise ValueError("there is no photograph to score: the list of records is empty")
    ids, numbers = {r.id for r in records}, 3 * len(records[0].truth.skeleton)
    for i, row in enumerate(results):
        if not isinstance(row, Mapping) or not {"image_id", "keypoints", "score"} <= row.keys():
            raise ValueError(f"result {i} is not a row of COCO's results format: it needs image_id, keypoints, score")
        if not isinstance(row["image_id"], int | str) or row["image_id"] not in ids:
            raise ValueError(f"result {i} is of image_id {row['image_id']!r}, which is not in this split of the data")
        if not isinstance(row["keypoints"], Sequence | np.ndarray) or len(row["keypoints"]) != numbers:
            joints, found = records[0].truth.skeleton.name, np.size(row["keypoints"])
            raise ValueError(f"result {i} has {found} numbers in keypoints; {joints} needs {numbers}")
        try:
            good = math.isfinite(math.fsum(row["keypoints"]) + row["score"])
        except (TypeError, ValueError, OverflowError):
            good = False
        if not good:
            raise ValueError(f"result {i} (image_id {row['image_id']!r}) holds something that is not a finite number")
