"""Evaluation: the predictor that ships, over labelled photographs, by the object keypoint similarity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from tyro.conf import FlagCreatePairsOff, arg

from edgepose import folder
from edgepose.codecs import Image
from edgepose.data import Record
from edgepose.data._oks import average_precision
from edgepose.poses import Poses
from edgepose.predictor import load
from edgepose.weights import DEFAULT


def coco_results(poses: Poses, image_id: int | str) -> list[dict[str, Any]]:
    """People of one image in COCO's results format: every joint (x, y, score) and the person's score."""
    rows = []
    for person in poses:
        table = np.concatenate([person.xy, person.scores[:, None]], 1)
        keypoints = [round(float(v), 3) for v in table.ravel()]
        rows.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": float(person.score)})
    return rows


def evaluate(
    predict: Callable[[Image], Poses], records: Sequence[Record], tick: Callable[[], None] = lambda: None
) -> dict[str, float]:
    """Run `predict` over every photograph and give COCO's ten figures. `tick` is called after each photograph."""
    results = []
    for record in records:
        results += coco_results(predict(record.read()), record.id)
        tick()
    return average_precision(records, results)


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
