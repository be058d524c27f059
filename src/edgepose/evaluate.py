"""Evaluation: the predictor that ships, over labelled photographs, or a results file that somebody else made."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from tyro.conf import FlagCreatePairsOff, arg

from edgepose import folder
from edgepose.boxes import from_results
from edgepose.codecs.topdown import TopDown
from edgepose.data import Record
from edgepose.data._match import per_joint
from edgepose.data._oks import CROWD_NAMES, NAMES, average_precision, curves
from edgepose.poses import Poses
from edgepose.predictor import load
from edgepose.results import read_results, write_whole
from edgepose.weights import DEFAULT

Score = Callable[[Sequence[Record], list[dict[str, Any]]], dict[str, float]]


def coco_results(poses: Poses, image_id: int | str) -> list[dict[str, Any]]:
    """People of one image in COCO's results format: every joint (x, y, score) and the person's score."""
    rows = []
    for person in poses:
        table = np.concatenate([person.xy, person.scores[:, None]], 1)
        keypoints = [round(float(v), 3) for v in table.ravel()]
        rows.append({"image_id": image_id, "category_id": 1, "keypoints": keypoints, "score": float(person.score)})
    return rows


def detections(
    predict: Callable[..., Poses],
    records: Sequence[Record],
    tick: Callable[[], None] = lambda: None,
    boxes: bool = False,
    given: Mapping[int | str, tuple[NDArray, NDArray]] | None = None,
) -> list[dict[str, Any]]:
    """Everybody `predict` finds, as rows of COCO's results format. `tick` is called after each photograph.

    given: boxes and a detector's scores for them by image id (`boxes.from_results`).
    boxes: give `predict` the labelled boxes, for models that look at one person at a time; each row then says which
    labelled person it is of (`person`). `ValueError` if a photograph has people without boxes.
    """
    results = []
    for record in records:
        if given is not None:
            results += coco_results(predict(record.read(), *given[record.id]), record.id)
        elif not boxes:
            results += coco_results(predict(record.read()), record.id)
        elif len(record.truth):
            if record.truth.boxes is None:
                raise ValueError(f"{record.name} has no boxes, and this model needs one for each person")
            rows = coco_results(predict(record.read(), record.truth.boxes), record.id)
            results += [{**row, "person": p} for p, row in enumerate(rows)]
        tick()
    return results


def evaluate(
    predict: Callable[..., Poses],
    records: Sequence[Record],
    tick: Callable[[], None] = lambda: None,
    score: Score = average_precision,
) -> dict[str, float]:
    """Run `predict` over every photograph and give the figures of `score`, by default COCO's ten."""
    return score(records, detections(predict, records, tick))


def answers(
    records: Sequence[Record],
    model: str,
    results: Path | None = None,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    flip: bool | None = None,
    labelled_boxes: bool = False,
    detector: str | None = None,
) -> tuple[str, list[dict[str, Any]]]:
    """The name of a model and what it finds, with a progress bar; or those of a results file, where one is given.

    labelled_boxes: give a model that looks at one person at a time the labelled boxes; else it finds the people itself,
    or with `detector` (see `edgepose predict`).
    """
    if results is not None:
        return "/".join(results.parts[-2:]), read_results(results)
    from rich.console import Console
    from rich.progress import Progress

    listed = detector is not None and detector.endswith(".json")
    predictor = load(model, runtime, device, threads, flip, None if listed else detector)
    have, want = predictor.card.codec.skeleton, records[0].truth.skeleton if records else None
    if want is not None and have.joints != want.joints:
        raise ValueError(f"{model} finds the joints of {have.name}, and these labels are of {want.name}")
    crops = isinstance(predictor.codec, TopDown)
    if detector is not None and (labelled_boxes or not crops):
        raise ValueError(
            f"{detector} is of no use {'with labelled boxes' if crops else f'to {model}: it needs no boxes'}"
        )
    given = from_results(str(detector), [r.id for r in records]) if listed else None
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        task = progress.add_task(predictor.card.model, total=len(records))
        rows = detections(predictor, records, lambda: progress.advance(task), crops and labelled_boxes, given)
    return predictor.card.model, rows


def eval_(
    root: Path,
    data: str = "coco",
    split: str = "val",
    model: Annotated[str, arg(metavar="NAME|FOLDER")] = DEFAULT,
    results: Annotated[Path | None, arg(metavar="FILE")] = None,
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    runtime: Annotated[str | None, arg(metavar="NAME")] = None,
    device: str = "cpu",
    threads: Annotated[int | None, arg(metavar="N")] = None,
    no_flip: FlagCreatePairsOff[bool] = False,
    labelled_boxes: FlagCreatePairsOff[bool] = False,
    detector: Annotated[str | None, arg(metavar="NAME|FOLDER|FILE")] = None,
) -> int:
    """Measure a model on a labelled data set: the figures of that set, and figures per joint (needs the extra `train`).

    What is measured is what `edgepose predict` does: a model that looks at one person at a time finds the people first.

    Args:
        root: folder with the data set.
        data: name of the data set: coco, lsp, ...
        split: part of the data set.
        model: name of a bundled model, or a model folder.
        results: score this file in COCO's results format, and run no model.
        out: folder for results.json, figures.json, per_joint.csv and precision_recall.png.
        runtime: onnx, pytorch or binary.
        device: cpu or cuda.
        threads: CPU threads of the network.
        no_flip: do not look at the mirrored picture as well.
        labelled_boxes: give a model that looks at one person at a time the labelled boxes (MPII's protocol).
        detector: what finds the people for such a model: a model of whole pictures, a YOLOX or RTMDet network (.onnx),
            or boxes in COCO's results format (.json), such as the detections that published scores are made with.
    """
    source: Any = folder.entry("edgepose.data", data)
    records: list[Record] = source.read(root, split)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    name, rows = answers(
        records, model, results, runtime, device, threads, False if no_flip else None, labelled_boxes, detector
    )
    score: Score = getattr(source, "score", average_precision)
    figures, joints = score(records, rows), per_joint(records, rows)
    people = sum(len(r.truth) for r in records)
    title = f"{name} on {data} {split}" + ", labelled boxes" * (labelled_boxes and results is None)
    if out is not None:
        about = {"model": name, "data": data, "split": split, "photographs": len(records), "people": people}
        write_whole(out / "results.json", json.dumps(rows).encode())
        write_whole(out / "figures.json", json.dumps({**about, "figures": figures}, indent=1).encode())
        write_whole(out / "per_joint.csv", _csv(joints).encode())
        if tuple(figures) in (NAMES, CROWD_NAMES):
            from edgepose.plots import precision_recall

            precision = curves(records, rows, tuple(figures) == CROWD_NAMES)[0][..., 0]
            write_whole(out / "precision_recall.png", precision_recall(precision, title))
    print(f"{title}: {len(records)} photographs, {people} people, {len(rows)} detections\n")
    print(official(figures) + "\n\n" + joint_table(joints) + "\n")
    print("  ".join(f"{key} {value:.4f}" for key, value in figures.items()))
    if out is not None:
        print(f"-> {out}")
    return 0


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def official(figures: Mapping[str, float]) -> str:
    """COCO's and CrowdPose's figures as their own evaluation prints them; others as a row under their names."""
    if tuple(figures) not in (NAMES, CROWD_NAMES):
        columns = [(name, f"{100 * v:.1f}" if v >= 0 else "-") for name, v in figures.items() if "@" not in name]
        table = ["  ".join(f"{column[i]:>8}" for column in columns) for i in (0, 1)]
        fine = [name for name in figures if name.endswith("@0.1")]
        if fine:
            table.append("  ".join(f"{100 * figures[name]:>8.1f}" for name in fine) + "  (at 0.1)")
        return "\n".join(table)
    sizes, lines = {"M": "medium", "L": "large"}, []
    for name, value in figures.items():
        kind = "Average Precision  (AP)" if name.startswith("AP") else "Average Recall     (AR)"
        limit = {"50": "0.50     ", "75": "0.75     "}.get(name[2:], "0.50:0.95")
        part = f"type={name[3:]:>6}" if "_" in name else f"area={sizes.get(name[2:], 'all'):>6}"
        lines.append(f" {kind} @[ IoU={limit} | {part} | maxDets= 20 ] = {value:0.3f}")
    return "\n".join(lines)


def joint_table(joints: Sequence[Mapping[str, Any]]) -> str:
    """Figures per joint as lines of text; see `per_joint`."""
    lines = [f"{'joint':16}{'labels':>8}{'recall':>9}{'similarity':>12}{'median px':>11}{'over scale':>12}"]
    for row in joints:
        cells = [f"{row[key]:.{places}f}" if row[key] >= 0 else "-" for key, places in _COLUMNS]
        lines.append(f"{row['joint']:16}{row['labels']:8}{cells[0]:>9}{cells[1]:>12}{cells[2]:>11}{cells[3]:>12}")
    return "\n".join(lines)


_COLUMNS = (("recall", 3), ("similarity", 3), ("pixels", 1), ("relative", 3))


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()
