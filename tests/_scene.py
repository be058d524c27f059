"""Random photographs with people, crowds, ignored people and detections, and their labels as COCO writes them."""

from __future__ import annotations

import numpy as np

from edgepose.data import Record
from edgepose.poses import Poses
from edgepose.skeleton import COCO17


def seen_by(rng, skeleton):
    """Which joints are labelled, as a column."""
    return rng.random((len(skeleton), 1)) < 0.4


def scene(seed, photographs=12, skeleton=COCO17, others=True):
    """Records and results: small to large people, noisy, doubled and invented detections, equal scores."""
    rng = np.random.default_rng(seed)
    records, results = [], []
    for i in range(photographs):
        people = int(rng.choice([0, 1, 2, 5, 24], p=[0.2, 0.2, 0.3, 0.25, 0.05]))
        size = rng.choice([20, 60, 250], (people, 1, 1))
        xy = np.round(rng.uniform(0, 500, (people, 1, 2)) + rng.uniform(0, 1, (people, len(skeleton), 2)) * size)
        seen = rng.random((people, len(skeleton))) < rng.choice([0.15, 0.9], (people, 1))
        if people > 1 and rng.random() < 0.4:  # two people with the same labels: the similarities tie
            xy[1], seen[1] = xy[0], seen[0]
        boxes = np.concatenate([xy.min(1), xy.max(1)], 1).reshape(-1, 4)
        areas = np.round(np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) * 0.5)
        extra = []
        for _ in range(int(rng.integers(3)) if others else 0):
            x, y, w, h = (float(v) for v in rng.integers(1, 200, 4))
            extra.append({"bbox": [x, y, w, h], "area": w * h / 2, "iscrowd": int(rng.integers(2))})
            if extra[-1]["iscrowd"] and rng.random() < 0.5:  # a crowd with some labelled joints
                table = np.concatenate(
                    [rng.uniform(0, 1, (len(skeleton), 2)) * [w, h] + [x, y], 2 * seen_by(rng, skeleton)], 1
                )
                extra[-1] |= {"keypoints": table.ravel().tolist(), "num_keypoints": int((table[:, 2] > 0).sum())}
        truth = Poses(xy, seen, skeleton, boxes=boxes)
        blank = lambda: np.zeros((1, 1, 3), np.uint8)  # noqa: E731
        crowd = float(rng.random())
        records.append(Record(7 * i, f"{i}.jpg", (640, 480), blank, truth, areas, others=tuple(extra), crowd=crowd))
        copies = rng.permutation(np.repeat(np.arange(people), rng.integers(0, 3, people)))
        found = [xy[p] + rng.normal(0, rng.choice([0.0, 0.02, 0.2]) * size[p, 0, 0], xy[p].shape) for p in copies]
        for box in (e["bbox"] for e in extra):
            found += [rng.uniform(0, 1, (len(skeleton), 2)) * box[2:] + box[:2] for _ in range(rng.integers(4))]
        found += [rng.uniform(0, 600, (len(skeleton), 2)) for _ in range(rng.integers(3))]
        for pose in found:
            flat = np.concatenate([pose, np.ones((len(skeleton), 1))], 1).ravel().tolist()
            score = float(rng.choice([0.25, 0.5, rng.random()]))
            results.append({"image_id": 7 * i, "category_id": 1, "keypoints": flat, "score": score})
    return records, [results[i] for i in rng.permutation(len(results))]


def labels(records):
    """The records as COCO writes them, made here and not by the code under test."""
    annotations = []
    for r in records:
        for p in range(len(r.truth)):
            x0, y0, x1, y1 = r.truth.boxes[p].tolist()
            table = np.concatenate([r.truth.xy[p], 2 * r.truth.scores[p][:, None]], 1)
            table[r.truth.scores[p] == 0] = 0
            row = {"area": float(r.areas[p]), "bbox": [x0, y0, x1 - x0, y1 - y0], "iscrowd": 0}
            row |= {"keypoints": table.ravel().tolist(), "num_keypoints": int((table[:, 2] > 0).sum())}
            annotations.append({"image_id": r.id, **row})
        for other in r.others:
            empty = {"keypoints": [0] * 3 * len(r.truth.skeleton), "num_keypoints": 0}
            annotations.append({"image_id": r.id, **empty, **other})
    annotations = [{"id": i + 1, "category_id": 1, **a} for i, a in enumerate(annotations)]
    return {"images": [{"id": r.id} for r in records], "annotations": annotations, "categories": [{"id": 1}]}
