"""Error analysis: what kinds of faults a model makes, what each costs, and on which photographs (`data/_faults.py`)."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from tyro.conf import FlagCreatePairsOff, arg

from edgepose import folder
from edgepose.data import Record
from edgepose.data._faults import FIXES, JOINT_KINDS, SIZES, classify, false_positives, fix
from edgepose.data._match import Match, match_all
from edgepose.data._oks import average_precision
from edgepose.evaluate import answers
from edgepose.plots import faults
from edgepose.poses import Poses
from edgepose.results import jpeg, write_whole
from edgepose.sheets import region, sheet, view
from edgepose.weights import DEFAULT

STEPS = ("ap", *FIXES, "all")


def analyse(
    records: Sequence[Record], results: Sequence[Mapping[str, Any]], tick: Callable[[], None] = lambda: None
) -> dict[str, Any]:
    """Everything about the faults in `results`, as JSON values.

    photographs, people, people_found, labels (joints), detections, and of these double, outranked, background
    (`false_positives`) and excused, which are of people who are ignored. joints, per_joint, per_size: share of the
    labels of each of `JOINT_KINDS`. ap; ap_with: AP with one of `FIXES` put right, and with `all`; gain: the same
    less `ap`. `tick` is called after each of the `STEPS` measurements of AP.
    """
    found = match_all(records, results)
    kinds = [classify(r, f) for r, f in zip(records, found, strict=True)]
    table = np.concatenate(kinds)
    areas = np.concatenate([r.areas for r in records])
    labelled = (table >= 0).any(1)
    sizes = [(name, labelled & (areas >= low) & (areas < high)) for name, low, high in SIZES]
    joints = enumerate(records[0].truth.skeleton.joints)
    false = [false_positives(f) for f in found]
    fixed = {}
    for name in STEPS:
        rows = results
        if name != "ap":
            rows = fix(records, found, kinds, FIXES if name == "all" else [name])
        fixed[name] = average_precision(records, rows)["AP"]
        tick()
    ap = fixed.pop("ap")
    return {
        "photographs": len(records),
        "people": int(labelled.sum()),
        "people_found": sum(int((f.person >= 0).sum()) for f in found),
        "labels": int((table >= 0).sum()),
        "detections": sum(len(f.xy) for f in found),
        **{kind: sum(int(f[kind].sum()) for f in false) for kind in ("double", "outranked", "background")},
        "excused": sum(int(f.excused.sum()) for f in found),
        "joints": _shares(table),
        "per_joint": [
            {"joint": joint, "labels": int((table[:, j] >= 0).sum())} | _shares(table[:, j]) for j, joint in joints
        ],
        "per_size": [{"size": name, "people": int(rows.sum())} | _shares(table[rows]) for name, rows in sizes],
        "ap": ap,
        "ap_with": fixed,
        "gain": {name: value - ap for name, value in fixed.items()},
    }


def _shares(kinds: NDArray[np.int64]) -> dict[str, float]:
    total = int((kinds >= 0).sum())
    return {name: float((kinds == k).sum() / total) if total else 0.0 for k, name in enumerate(JOINT_KINDS)}


def photograph_similarity(record: Record, found: Match) -> float:
    """Mean similarity of the labelled people to their detections, 0 for people not found; -1 if nobody is labelled."""
    people = np.flatnonzero((record.truth.scores > 0).any(1)).tolist()
    near = [found.oks[found.detection(p), p] if found.detection(p) >= 0 else 0.0 for p in people]
    return float(np.mean(near)) if near else -1.0


def errors(
    root: Path,
    out: Path,
    data: str = "coco",
    split: str = "val",
    model: Annotated[str, arg(metavar="NAME|FOLDER")] = DEFAULT,
    results: Annotated[Path | None, arg(metavar="FILE")] = None,
    model_b: Annotated[str | None, arg(metavar="NAME|FOLDER")] = None,
    results_b: Annotated[Path | None, arg(metavar="FILE")] = None,
    photographs: Annotated[int, arg(metavar="N")] = 12,
    threshold: float = 0.15,
    runtime: Annotated[str | None, arg(metavar="NAME")] = None,
    device: str = "cpu",
    threads: Annotated[int | None, arg(metavar="N")] = None,
    no_flip: FlagCreatePairsOff[bool] = False,
) -> int:
    """Say what kinds of faults a model makes and what each costs, and compare two models (needs the extra `train`).

    Args:
        root: folder with the data set.
        out: folder for errors.json, errors.png, photographs.csv, worst.jpg and, of two models, changed.jpg.
        data: name of the data set: coco, lsp, ...
        split: part of the data set.
        model: name of a bundled model, or a model folder.
        results: look at this file in COCO's results format instead of a model.
        model_b: a second model to compare with, such as a quantised copy of the first.
        results_b: a results file to compare with.
        photographs: how many photographs to draw on a sheet.
        threshold: lowest score of the people drawn, besides those near a labelled person; all count.
        runtime: onnx, pytorch or binary.
        device: cpu or cuda.
        threads: CPU threads of the network.
        no_flip: do not look at the mirrored picture as well.
    """
    from rich.console import Console
    from rich.progress import Progress

    if photographs < 1:
        raise ValueError(f"--photographs must be 1 or more, not {photographs}")
    source: Any = folder.entry("edgepose.data", data)
    records: list[Record] = source.read(root, split)
    out.mkdir(parents=True, exist_ok=True)
    flip = False if no_flip else None
    wanted = [(model, results)]
    if model_b is not None or results_b is not None:
        wanted.append((model_b or DEFAULT, results_b))
    given = [answers(records, name, file, runtime, device, threads, flip) for name, file in wanted]
    names = [name for name, _ in given]
    if len(set(names)) < len(names):  # two copies of one model: call them what the user calls them
        names = ["/".join(Path(file or name).parts[-2:]) for name, file in wanted]
    if len(set(names)) < len(names):
        names = [f"{name} ({mark})" for name, mark in zip(names, ("1st", "2nd"), strict=True)]
    reports = []
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty()) as progress:
        for name, (_, rows) in zip(names, given, strict=True):
            task = progress.add_task(f"errors of {name}", total=len(STEPS))
            reports.append(analyse(records, rows, partial(progress.advance, task)))
    found = [match_all(records, rows) for _, rows in given]
    near = np.array([[photograph_similarity(r, f) for r, f in zip(records, each, strict=True)] for each in found])
    write_whole(out / "errors.json", json.dumps(dict(zip(names, reports, strict=True)), indent=1).encode())
    write_whole(out / "errors.png", faults(names, reports, f"{data} {split}"))
    write_whole(out / "photographs.csv", _csv(records, names, near).encode())
    labelled = np.flatnonzero(near[0] >= 0)
    sheets = {"worst.jpg": (labelled[np.argsort(near[0][labelled], kind="stable")], 1)}
    if len(given) == 2:
        change = near[1] - near[0]
        sheets["changed.jpg"] = (labelled[np.argsort(change[labelled], kind="stable")], 2)
    for file, (order, count) in sheets.items():
        groups = []
        for i in order[:photographs]:
            image, record = records[i].read(), records[i]
            people = [shown(record, given[k][1], found[k][i], threshold) for k in range(count)]
            seen = record.truth.xy[record.truth.scores > 0]
            part = region(record.size, np.concatenate([seen, *(p.xy[p.scores > 0.05] for p in people)]))
            group = [(view(image, record.truth, part), f"{record.name}: {len(record.truth)} labelled")]
            for k in range(count):
                group.append((view(image, people[k], part), f"{names[k]}: similarity {near[k, i]:.2f}"))
            groups.append(group)
        write_whole(out / file, jpeg(sheet(groups, 3 - count), out / file))
    _print(names, reports)
    print(f"-> {out}: errors.json, errors.png, photographs.csv, {', '.join(sheets)}")
    return 0


def shown(record: Record, results: Sequence[Mapping[str, Any]], found: Match, threshold: float) -> Poses:
    """The detections of a photograph to draw: those of labelled people, and others with at least the score."""
    keep = (found.person >= 0) | (found.scores >= threshold)
    rows = [results[i] for i in found.order[keep]]
    scores = (
        np.array([row["keypoints"] for row in rows], np.float32).reshape(len(rows), -1, 3)[..., 2] if rows else None
    )
    if scores is None or not (scores > 0).any():  # a file without scores of joints
        scores = np.ones(found.xy[keep].shape[:2], np.float32)
    people = found.scores[keep].astype(np.float32)
    return Poses(found.xy[keep].astype(np.float32), scores, record.truth.skeleton, people)


# ── tables ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def _print(names: Sequence[str], reports: Sequence[Mapping[str, Any]]) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    console = Console(highlight=False, width=120)
    marks = ["A ", "B "] if len(names) == 2 else [""]
    for mark, name, report in zip(marks, names, reports, strict=True):
        console.print(
            f"{mark}{name}: AP {report['ap']:.3f}; {report['people_found']} of {report['people']} people found in "
            f"{report['photographs']} photographs; {report['detections']} detections, of which "
            f"{report['double']} double, {report['outranked']} outranked by a worse one of the same person, "
            f"{report['background']} of the background, {report['excused']} excused"
        )
    table = Table("fault", box=box.SIMPLE)
    for mark in marks:
        for column in ("labels", "AP without", "gain"):
            table.add_column(mark + column, justify="right")
    for kind in ("good", *FIXES, "all"):
        cells = []
        for report in reports:
            cells.append(f"{100 * report['joints'][kind]:.1f} %" if kind in report["joints"] else "")
            fixed = report["ap_with"].get(kind)
            cells += ["", ""] if fixed is None else [f"{fixed:.3f}", f"{report['gain'][kind]:+.3f}"]
        table.add_row(kind, *cells)
    console.print(table)
    for key, first in (("per_joint", "joint"), ("per_size", "size")):
        table = Table(first, box=box.SIMPLE)
        for kind in JOINT_KINDS:
            table.add_column(kind + " %", justify="right")
        for rows in zip(*(report[key] for report in reports), strict=True):
            cells = ["  ".join(f"{100 * row[kind]:5.1f}" for row in rows) for kind in JOINT_KINDS]
            table.add_row(rows[0][first], *cells)
        console.print(table)


def _csv(records: Sequence[Record], names: Sequence[str], near: NDArray[np.float64]) -> str:
    """A line a photograph: id, name, labelled people, similarity of each model and, of two, the change."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["id", "name", "people", *names, *(["change"] if len(names) == 2 else [])])
    for i, record in enumerate(records):
        change = [round(float(near[1, i] - near[0, i]), 4)] if len(names) == 2 else []
        writer.writerow([record.id, record.name, len(record.truth), *np.round(near[:, i], 4).tolist(), *change])
    return text.getvalue()
