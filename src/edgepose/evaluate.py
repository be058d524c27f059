"""Evaluation: the predictor that ships, over labelled photographs, by the object keypoint similarity."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import FlagCreatePairsOff, arg

from edgepose import folder
from edgepose.codecs import Image
from edgepose.data import Record
from edgepose.poses import Poses
from edgepose.predictor import load
from edgepose.weights import DEFAULT

NAMES = ("AP", "AP50", "AP75", "APM", "APL", "AR", "AR50", "AR75", "ARM", "ARL")


def coco_truth(records: Sequence[Record]) -> dict[str, Any]:
    """Labelled people in COCO's keypoint format."""
    people = []
    for record in records:
        truth = record.truth
        for person, area in zip(truth, record.areas, strict=True):
            seen = person.scores > 0
            x0, y0, x1, y1 = map(float, person.box) if person.box is not None else (0.0, 0.0, 0.0, 0.0)
            table = np.concatenate([person.xy * seen[:, None], 2.0 * seen[:, None]], 1)
            people.append(
                {"id": len(people) + 1, "image_id": record.id, "category_id": 1, "iscrowd": 0, "area": float(area)}
                | {"bbox": [x0, y0, x1 - x0, y1 - y0], "num_keypoints": int(seen.sum())}
                | {"keypoints": [float(v) for v in table.ravel()]}
            )
    images = [{"id": r.id, "width": r.size[0], "height": r.size[1], "file_name": r.name} for r in records]
    return {"images": images, "annotations": people, "categories": [{"id": 1, "name": "person"}]}


def coco_results(poses: Poses, image_id: int | str) -> list[dict[str, Any]]:
    """People of one image in COCO's results format: every joint (x, y, score) and the person's score."""
    rows = []
    for person in poses:
        table = np.concatenate([person.xy, person.scores[:, None]], 1)
        keypoints = [round(float(v), 3) for v in table.ravel()]
        rows.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": float(person.score)})
    return rows


def keypoint_ap(records: Sequence[Record], results: list[dict[str, Any]]) -> dict[str, float]:
    """COCO's ten keypoint figures (AP, AP50, ...), by faster-coco-eval; all 0 when `results` is empty."""
    from faster_coco_eval import COCO, COCOeval_faster

    if not results:
        return dict.fromkeys(NAMES, 0.0)
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(coco_truth(records))
        judge = COCOeval_faster(truth, truth.loadRes(results), "keypoints")
        judge.params.kpt_oks_sigmas = np.array(records[0].truth.skeleton.sigmas)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return {name: float(value) for name, value in zip(NAMES, judge.stats[:10], strict=True)}


def evaluate(
    predict: Callable[[Image], Poses], records: Sequence[Record], tick: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Run `predict` over every photograph and give COCO's ten figures. `tick` is called after each photograph."""
    results = []
    for record in records:
        results += coco_results(predict(record.read()), record.id)
        tick()
    return keypoint_ap(records, results)


def eval_(
    root: Path,
    data: str = "coco",
    split: str = "val",
    model: Annotated[str, arg(metavar="NAME|FOLDER")] = DEFAULT,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    no_flip: FlagCreatePairsOff[bool] = False,
) -> int:
    """Measure a model on a labelled data set and print COCO's ten keypoint figures (needs the extra `train`).

    Args:
        root: folder with the data set.
        data: name of the data set: coco or lsp.
        split: part of the data set.
        model: name of a bundled model, or a model folder.
        runtime: onnx or pytorch.
        device: cpu or cuda.
        threads: CPU threads of the network.
        no_flip: do not look at the mirrored picture as well.
    """
    from rich.console import Console
    from rich.progress import Progress

    predictor = load(model, runtime, device, threads, False if no_flip else None)
    records = folder.entry("edgepose.data", data).read(root, split)
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task(f"{data} {split}", total=len(records))
        figures = evaluate(predictor, records, lambda: progress.advance(task))
    people = sum(len(r.truth) for r in records)
    print(f"{predictor.card.model} on {data} {split}: {len(records)} photographs, {people} people")
    print("  ".join(f"{name} {value:.4f}" for name, value in figures.items()))
    return 0
