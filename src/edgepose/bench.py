"""Bench: models, engines and threads timed side by side on photographs, file to poses, each in a process of its own."""

from __future__ import annotations

import json
import os
import platform
import random
import re
import shlex
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
from tyro.conf import FlagCreatePairsOff, Positional, UseAppendAction, arg

from edgepose import __version__
from edgepose.benchreport import charts, printed
from edgepose.candidate import MANY, Candidate, Worker
from edgepose.card import Card
from edgepose.codecs.bottomup import BottomUp
from edgepose.fastest import installed, processor
from edgepose.folder import names, unknown
from edgepose.results import write_whole
from edgepose.runtimes import cpus, need
from edgepose.sources import find as find_pictures
from edgepose.sources import photographs, read_image, unique
from edgepose.terminal import complain, progress
from edgepose.weights import DEFAULT, find

TURNS = 3  # of pictures at once
AT_ONCE = 8  # pictures for each thread in such a turn, at least


@dataclass
class Timed:
    """One thing that is timed: what it is, its process, the answers and milliseconds of every picture it was given."""

    facts: dict[str, Any]
    start: Callable[[], Worker]
    worker: Worker | None = None
    first: float = 0.0  # seconds from the start of the process to the first answer
    total: list[float] = field(default_factory=list)
    steps: list[dict[str, float]] = field(default_factory=list)
    many: dict[int, list[float]] = field(default_factory=dict)  # batch -> pictures a second
    memory: float | None = None
    failed: str = ""


def bench(
    models: Annotated[Positional[tuple[str, ...]], arg(metavar="MODEL...")] = (DEFAULT,),
    runtime: Annotated[str, arg(metavar="all|NAME,NAME")] = "all",
    threads: Annotated[str, arg(metavar="N,N")] = "1",
    input_size: Annotated[str | None, arg(name="input", metavar="HxW")] = None,
    pictures: Annotated[Path | None, arg(metavar="DIR")] = None,
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    rounds: int = 20,
    batch: Annotated[str, arg(metavar="N,N")] = "1",
    plain: FlagCreatePairsOff[bool] = False,
    no_flip: FlagCreatePairsOff[bool] = False,
    peer: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="CMD")] = (),
    table: Annotated[Path | None, arg(metavar="FILE")] = None,
) -> int:
    """Time models and engines side by side on photographs, from file to poses.

    Every model, engine and number of threads has a process of its own; they take turns, picture by picture, in an order
    that changes each round, so that whatever else the machine does falls on all. The first round warms up.

    Args:
        models: bundled names or model folders; with --table, architectures (see `edgepose models`).
        runtime: engines, or "all" that are installed and have weights in the model's folder.
        threads: numbers of CPU threads.
        input_size: cut the photographs to this aspect and take them at this size, where a model takes whole pictures of
            any size; by default the size on each card, and the photographs as they are.
        pictures: folder of photographs; by default those that come with edgepose.
        out: folder for bench.json and bench.png; without it only the table is printed.
        rounds: times that each photograph is timed.
        batch: pictures that go through the network together when many are worked on at once.
        plain: one scale and no mirrored picture, so that the network sees each picture once.
        no_flip: no mirrored picture.
        peer: an outside command that reads the path of a picture per line and answers each with a line when done.
        table: time every distinct block of the LitePose architectures MODEL, or of all candidates of a recipe with a
            search space, alone and write the table to this file (extra `export`); only --runtime, --threads (one each),
            --input and --rounds matter then.
    """
    if table is not None:
        from edgepose.blocktable import write_table

        engine = "onnx" if runtime == "all" else runtime
        return write_table(table, models, engine, numbers("threads", threads)[0], size_of(input_size), rounds)
    if rounds < 1:
        raise ValueError(f"--rounds must be at least 1, got {rounds}")
    if out is not None:
        need("train", "matplotlib")
        out.mkdir(parents=True, exist_ok=True)
    size, batches = size_of(input_size), numbers("batch", batch)
    with tempfile.TemporaryDirectory() as scratch:
        paths = unique(find_pictures(pictures)) if pictures is not None else photographs()
        shown = cut(paths, size, Path(scratch)) if size else paths
        for path in shown:
            read_image(path)  # a picture that cannot be read is said before any work
        timed = candidates(models, runtime, numbers("threads", threads), size, plain, no_flip)
        timed += [Timed({"peer": command}, _peer(command)) for command in peer]
        load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
        try:
            run(timed, [str(path) for path in shown], rounds, batches)
        finally:
            for one in timed:
                if one.worker is not None:
                    one.worker.__exit__()
    rows = [summary(one) for one in timed if not one.failed and one.total]
    for one in timed:
        if one.failed:
            complain(one.failed)
    if not rows:
        return 2
    facts = {"machine": machine(), "load before": load, "pictures": [_described(path) for path in paths]}
    facts |= {"input": input_size, "rounds": rounds, "plain": plain, "no_flip": no_flip, "candidates": rows}
    facts |= {"failed": [one.failed for one in timed if one.failed]}
    printed(facts)
    if out is not None:
        write_whole(out / "bench.png", charts(facts))
        write_whole(out / "bench.json", (json.dumps(facts, indent=1) + "\n").encode())
        print(f"{out / 'bench.json'}, {out / 'bench.png'}")
    return 1 if len(rows) < len(timed) else 0


def candidates(
    models: Sequence[str], runtime: str, threads: Sequence[int], size: tuple[int, int] | None, plain: bool, flip: bool
) -> list[Timed]:
    """What is to be timed; `ValueError` for engines that are unknown, and where "all" are none."""
    known, out = names("edgepose.runtimes"), []
    for name in [] if runtime == "all" else runtime.split(","):
        if name not in known:
            raise ValueError(unknown("runtime", name, known))
    for model in models:
        folder = find(model)
        card = Card.read(folder)
        ready = [name for name in card.weights if name in known and installed(name)]
        if runtime == "all" and not ready:
            raise ValueError(
                f"no engine of {model} is installed: it has weights for {', '.join(card.weights) or 'none'}"
            )
        free = isinstance(card.codec, BottomUp)
        for engine in sorted(ready) if runtime == "all" else runtime.split(","):
            for n in threads:
                short = min(size) if size is not None and free else None
                candidate = Candidate(model, engine, n, plain, flip, short)
                path = folder / card.weights.get(engine, "")
                facts: dict[str, Any] = {"model": model, "runtime": engine, "threads": n, "params": card.params}
                facts |= {"gmacs": card.gmacs, "gmacs_paper": card.gmacs_paper, "input": card.codec.input_size}  # type: ignore[attr-defined]
                facts |= {"one person at a time": not free, "scores": card.scores}
                facts["file_mb"] = path.stat().st_size / 1e6 if path.is_file() else None
                out.append(Timed(facts, lambda candidate=candidate: Worker.of(candidate)))
    return out


def _peer(command: str) -> Callable[[], Worker]:
    return lambda: Worker(shlex.split(command), command)


def run(timed: Sequence[Timed], paths: Sequence[str], rounds: int, batches: Sequence[int]) -> None:
    """Give every picture to every process `rounds` times, after a round that warms up, then many at once; in place.

    What fails is left out from then on, and says why in `failed`.
    """
    dice = random.Random(0)
    ours = [one for one in timed if "peer" not in one.facts]
    with progress("rounds", rounds + 1 + TURNS) as step:
        for turn in range(rounds + 1):
            for path in paths:
                for one in dice.sample(timed, len(timed)):
                    _ask(one, path, turn > 0)
            step()
        for one in timed:
            one.memory = one.worker.memory() if one.worker is not None else None
        for _ in range(TURNS):
            for one in dice.sample(ours, len(ours)):
                for batch in batches:
                    _many(one, paths, batch)
            step()


def _ask(one: Timed, path: str, count: bool) -> None:
    if one.failed:
        return
    try:
        fresh = one.worker is None
        if one.worker is None:
            one.worker = one.start()
        reply, seconds = one.worker.ask(path)
    except ValueError as error:
        one.failed = str(error)
        return
    if fresh:
        one.first = one.worker.age()
    if count:
        one.total.append(1e3 * seconds)
        if "peer" not in one.facts:
            one.steps.append(json.loads(reply))


def _many(one: Timed, paths: Sequence[str], batch: int) -> None:
    if one.failed or one.worker is None:
        return
    wanted = max(AT_ONCE * one.facts["threads"], 2 * batch)
    pictures = list(paths) * -(-wanted // len(paths))
    try:
        reply, _ = one.worker.ask(MANY + json.dumps({"pictures": pictures, "batch": batch}))
    except ValueError as error:
        one.failed = str(error)
        return
    one.many.setdefault(batch, []).append(json.loads(reply)["pictures per second"])


def summary(one: Timed) -> dict[str, Any]:
    """The figures of one candidate as JSON values: milliseconds are those of a picture."""
    marks = np.percentile(one.total, (50, 90, 99))
    row = {**one.facts, "pictures timed": len(one.total), "first_s": round(one.first, 3)}
    row["ms"] = dict(zip(("p50", "p90", "p99"), np.round(marks, 3).tolist(), strict=True))
    row["peak_mb"] = None if one.memory is None else round(one.memory, 1)
    if one.steps:
        mean = {key: float(np.mean([s[key] for s in one.steps])) for key in ("people", "calls", "gmacs")}
        row |= {"people": round(mean["people"], 2), "network calls": round(mean["calls"], 2)}
        row["gmacs per picture"] = round(mean["gmacs"], 3)
        steps = sorted({key for s in one.steps for key in s} - mean.keys())
        row["steps_ms"] = {key: round(float(np.median([s.get(key, 0.0) for s in one.steps])), 3) for key in steps}
        row["pictures per second"] = {str(n): round(float(np.median(v)), 2) for n, v in one.many.items()}
    return row


def cut(paths: Sequence[Path], size: tuple[int, int], folder: Path) -> list[Path]:
    """The middle of each photograph in the aspect of `size` (height, width), as JPEG files in `folder`."""
    made = []
    for i, path in enumerate(paths):
        image = read_image(path)
        h, w = image.shape[:2]
        zoom = min(h / size[0], w / size[1])
        high, wide = max(round(size[0] * zoom), 1), max(round(size[1] * zoom), 1)
        top, left = (h - high) // 2, (w - wide) // 2
        part = image[top : top + high, left : left + wide, ::-1]
        made.append(folder / f"{i}.jpg")
        cv2.imwrite(str(made[-1]), part, [cv2.IMWRITE_JPEG_QUALITY, 92])
    return made


def size_of(text: str | None) -> tuple[int, int] | None:
    """(height, width) of "HxW"; `ValueError` unless both are multiples of 64."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d+)[xX](\d+)", text)
    if not match or any(int(side) % 64 or int(side) == 0 for side in match.groups()):
        raise ValueError(f"--input is height x width in multiples of 64, as in 256x384; got {text!r}")
    return int(match[1]), int(match[2])


def numbers(flag: str, text: str) -> list[int]:
    """Positive numbers from "1,2"."""
    if not re.fullmatch(r"[1-9]\d*(,[1-9]\d*)*", text):
        raise ValueError(f"--{flag} is numbers with commas, as in 1,2; got {text!r}")
    return list(dict.fromkeys(map(int, text.split(","))))


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("onnxruntime", "openvino", "ncnn", "ai-edge-litert", "executorch", "torch", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    system = f"{platform.system()} {platform.machine()}"
    facts = {"processor": processor(), "cpus": cpus(), "system": system, "python": platform.python_version()}
    return {**facts, "edgepose": __version__, "versions": versions}


def _described(path: Path) -> dict[str, Any]:
    h, w = read_image(path).shape[:2]
    return {"name": path.name, "width": w, "height": h}
