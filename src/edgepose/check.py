"""Checking a labelled data set: what is broken, what is doubtful, and contact sheets to look at."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from tyro.conf import Positional, arg

from edgepose import folder
from edgepose.contact import cell, faint, sheet
from edgepose.data import Record
from edgepose.data._sides import swapped
from edgepose.results import jpeg, write_whole
from edgepose.runtimes import cpus

SHOWN = 48  # cells of a sheet
EDGE = 1.0  # pixels by which a joint may miss the picture: some tools count from the corner, some round up
SLACK = 0.1  # of the box's longer side, by which joints may leave it
KINDS = {  # kind -> (whether it is an error, what it is)
    "picture": (True, "pictures that are missing or cannot be decoded"),
    "size": (True, "pictures of another size than the labels say"),
    "id": (True, "ids or file names that occur twice"),
    "number": (True, "people with a coordinate that is not a number"),
    "outside": (True, "people with joints outside the picture"),
    "area": (True, "people with no area"),
    "box": (False, "people whose box does not hold the joints in sight"),
    "twin": (False, "people who seem to be labelled twice"),
    "side": (False, "people whose left and right look swapped"),
}


@dataclass(frozen=True)
class Finding:
    """Something found: its kind (of KINDS), the picture, the row of the person in it (None: the picture), one line."""

    kind: str
    name: str
    person: int | None
    text: str


def check(records: Sequence[Record], tick: Callable[[], None] = lambda: None) -> list[Finding]:
    """Everything found in `records`, picture by picture; every picture is read. `tick` is called after each."""
    found = _twice([r.id for r in records], records, "id")
    found += _twice([r.name for r in records], records, "file name")
    people = [(int(i), r) for r in records if r.truth.ids is not None for i in r.truth.ids]
    people += [(int(o["id"]), r) for r in records for o in r.others if "id" in o]
    found += _twice([i for i, _ in people], [r for _, r in people], "person's id")
    with ThreadPoolExecutor(cpus()) as pool:
        for some in pool.map(_picture, records):
            found += some
            tick()
    return found + [finding for record in records for finding in _people(record)]


def _twice(keys: Sequence[object], records: Sequence[Record], what: str) -> list[Finding]:
    count = Counter(keys)
    several = [(key, r) for key, r in zip(keys, records, strict=True) if count[key] > 1]
    return [Finding("id", r.name, None, f"{what} {key} occurs {count[key]} times") for key, r in several]


def _picture(record: Record) -> list[Finding]:
    try:
        h, w = record.read().shape[:2]
    except ValueError as error:
        return [Finding("picture", record.name, None, " ".join(str(error).split()))]
    if (w, h) == tuple(record.size):
        return []
    told = f"is {w} x {h}, the labels say {record.size[0]} x {record.size[1]}"
    turned = "; turned by its EXIF orientation?" if (h, w) == tuple(record.size) else ""
    return [Finding("size", record.name, None, told + turned)]


def _people(record: Record) -> list[Finding]:
    """What is wrong with the labels of one picture, without looking at it."""
    found: list[Finding] = []
    names, size = record.truth.skeleton.joints, np.array(record.size)

    def add(kind: str, person: int, text: str) -> None:
        found.append(Finding(kind, record.name, person, text))

    for i, pose in enumerate(record.truth):
        seen = pose.scores > 0
        xy = pose.xy[seen]
        if not np.isfinite(xy).all() or not np.isfinite(record.areas[i]):
            add("number", i, "a coordinate or the area is not a number")
            continue
        out = seen & ((pose.xy < -0.5 - EDGE) | (pose.xy > size - 0.5 + EDGE)).any(1)
        if out.any():
            places = (f"{names[j]} at {pose.xy[j, 0]:.0f}, {pose.xy[j, 1]:.0f}" for j in out.nonzero()[0])
            add("outside", i, ", ".join(places))
        if record.areas[i] <= 0:
            add("area", i, f"area {record.areas[i]:g}")
        if pose.box is not None and seen.any():
            slack = SLACK * float(np.max(pose.box[2:] - pose.box[:2])) + 2
            told = record.visible is None or record.visible[i] == 2  # boxes hold what is in sight
            far = seen & told & ((pose.xy < pose.box[:2] - slack) | (pose.xy > pose.box[2:] + slack)).any(1)
            if far.any():
                add("box", i, "outside the box: " + ", ".join(names[j] for j in far.nonzero()[0]))
        for reason in swapped(pose, None if record.visible is None else record.visible[i]):
            add("side", i, reason)
        for k in range(i):
            both = seen & (record.truth.scores[k] > 0)
            apart = np.linalg.norm(pose.xy[both] - record.truth.xy[k][both], axis=1)
            if both.sum() >= 3 and apart.mean() < 0.02 * np.sqrt(max(float(record.areas[i]), 1.0)):
                add("twin", i, f"the same joints as person {k}")
    return found


def joint_counts(records: Sequence[Record]) -> dict[str, tuple[int, int | None]]:
    """How often each joint is labelled, and how often hidden (None where the set does not say), by name."""
    names = records[0].truth.skeleton.joints
    labelled = np.sum([(r.truth.scores > 0).sum(0) for r in records], 0)
    known = all(r.visible is not None for r in records)
    hidden = np.sum([(r.visible == 1).sum(0) for r in records], 0) if known else [None] * len(names)
    return {n: (int(a), None if b is None else int(b)) for n, a, b in zip(names, labelled, hidden, strict=True)}


def overview(records: Sequence[Record], title: str) -> bytes | None:
    """A JPEG of up to SHOWN pictures with their labels, evenly chosen from those with people; None without any."""
    with_people = [r for r in records if len(r.truth)]
    picked = with_people[:: max(1, -(-len(with_people) // SHOWN))]
    cells = [cell(image, faint(r.truth, r.visible), r.name) for r in picked if (image := _try(r)) is not None]
    return jpeg(sheet(cells, title), Path("sheet")) if cells else None


def suspects(records: Sequence[Record], found: Sequence[Finding], title: str) -> bytes | None:
    """A JPEG of up to SHOWN of the people in `found`, each cut out with the reason below; None if there are none."""
    by_name = {r.name: r for r in records}
    cells = []
    for finding in [f for f in found if f.person is not None and f.kind != "number"][:SHOWN]:
        record = by_name[finding.name]
        image = _try(record)
        if image is not None and finding.person is not None:
            one = faint(record.truth, record.visible)[finding.person]
            xy = one.xy[0][one.scores[0] > 0]
            box = np.concatenate([xy.min(0), xy.max(0)])
            cells.append(cell(image, one, f"{Path(finding.name).name}: {finding.text}", box))
    return jpeg(sheet(cells, title, 4), Path("sheet")) if cells else None


def _try(record: Record) -> np.ndarray | None:
    try:
        return record.read()
    except ValueError:
        return None


def run(
    root: Positional[Path],
    data: Annotated[str, arg(metavar="NAME")] = "custom",
    split: str = "train",
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None,
) -> int:
    """Check a labelled data set. Exit code 1 if it has errors; what is merely doubtful does not count.

    Args:
        root: folder with the data set.
        data: its kind: coco, crowdpose, custom, lsp, mpii or yolo.
        split: part of the data set.
        out: folder for contact sheets (labels.jpg, suspects.jpg) and everything found (findings.json).
    """
    from rich.console import Console
    from rich.progress import Progress

    records = folder.entry("edgepose.data", data).read(root, split)
    if not records:
        raise ValueError(f"{data} {split} in {root} has no pictures")
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(f"{data} {split}", total=len(records))
        found = check(records, lambda: progress.advance(task))
    report(records, found, f"{data} {split}")
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        rows = [{"kind": f.kind, "picture": f.name, "person": f.person, "found": f.text} for f in found]
        write_whole(out / "findings.json", json.dumps(rows, indent=1).encode())
        colours = "left orange, right blue, hidden joints faint"
        doubtful = [f for f in found if f.kind == "side"] + [f for f in found if f.kind not in ("side", "number")]
        for name, data_ in (
            ("labels.jpg", overview(records, f"{data} {split}: {colours}")),
            ("suspects.jpg", suspects(records, doubtful, f"{data} {split}, what was found: {colours}")),
        ):
            (out / name).unlink(missing_ok=True)  # one of an earlier run says nothing about this one
            if data_ is not None:
                write_whole(out / name, data_)
        print(f"sheets and findings -> {out}")
    return 1 if any(KINDS[f.kind][0] for f in found) else 0


def report(records: Sequence[Record], found: Sequence[Finding], title: str) -> None:
    """Print what there is and what was found."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    people, others = sum(len(r.truth) for r in records), [o for r in records for o in r.others]
    crowds = sum(bool(o.get("iscrowd")) for o in others)
    print(f"{title}: {len(records)} pictures, {sum(not len(r.truth) for r in records)} of them without labelled people")
    print(f"{people} people; ignored: {crowds} crowds, {len(others) - crowds} people without labelled joints")
    skeleton = records[0].truth.skeleton
    pairs = sum(i < m for i, m in enumerate(skeleton.mirror))
    size = f"{len(skeleton)} joints, {pairs} pairs of left and right, {len(skeleton.limbs)} limbs"
    print(f"skeleton {skeleton.name}: {size}")
    table = Table(box=box.SIMPLE)
    for column in ("joint", "labelled", "of people", "hidden"):
        table.add_column(column, justify="left" if column == "joint" else "right")
    for joint, (labelled, hidden) in joint_counts(records).items():
        share = f"{100 * labelled / max(people, 1):.0f} %"
        table.add_row(joint, f"{labelled:,}", share, "not said" if hidden is None else f"{hidden:,}")
    console = Console(width=None if sys.stdout.isatty() else 180, highlight=False)
    console.print(table)
    table = Table(box=box.SIMPLE)
    for column in ("", "found", "what", "for example"):
        table.add_column(column, justify="right" if column == "found" else "left", overflow="fold")
    for kind, (error, what) in KINDS.items():
        mine = [f for f in found if f.kind == kind]
        mark = "ok" if not mine else "ERROR" if error else "look"
        table.add_row(mark, str(len(mine)), what, "\n".join(f"{f.name}: {f.text}" for f in mine[:3]))
    console.print(table)
