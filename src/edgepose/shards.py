"""Very large collections: the predictor in Ray Data's workers, the answers in shards that are written whole.

A job is a list of pictures, cut into shards of some hundred; `job.json` in the output folder says which. A worker
writes the answers of a shard to `shard-00000.jsonl` under another name and renames it when it is complete. So a picture
is in the output once, whoever dies on the way: a shard that was not finished is done again, one that was is left alone,
and a stopped job goes on where it stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepose.pipeline import stream
from edgepose.results import plain, write_whole
from edgepose.runtimes import need
from edgepose.terminal import progress

if TYPE_CHECKING:
    from edgepose.predictor import Predictor

FORMAT = 1
SHARD = 256  # pictures


@dataclass(frozen=True)
class Job:
    """What is done to every picture: the arguments of `predictor.load`, and the lowest score of people written."""

    model: str
    runtime: str | None
    device: str
    flip: bool | None
    detector: str | None
    weights: str | None
    least: float
    batch: int | None = None

    def open(self) -> Predictor:
        """The predictor, with one CPU thread: there are as many workers as CPUs."""
        from edgepose.predictor import load

        return load(self.model, self.runtime, self.device, 1, self.flip, self.detector, self.weights)


def name(shard: int) -> str:
    """The file of a shard."""
    return f"shard-{shard:05d}.jsonl"


def begin(job: Job, paths: Sequence[Path], out: Path, size: int = SHARD) -> list[int]:
    """Make `out` the folder of this job, or find it there; returns the shards that are still to do.

    `ValueError` if it holds another job, or something else.
    """
    listed = hashlib.sha256("\n".join(map(str, paths)).encode()).hexdigest()
    shards = -(-len(paths) // size)
    facts = {"format": FORMAT, "pictures": len(paths), "sha256 of their names": listed, "shards": shards}
    facts |= {"pictures in a shard": size, "job": asdict(job)}
    if (out / "job.json").exists():
        try:
            there = json.loads((out / "job.json").read_bytes())
        except ValueError:
            there = None
        if there != facts:
            raise ValueError(f"{out} holds another job (pictures, model or settings differ): choose another --out")
        return [shard for shard in range(shards) if not (out / name(shard)).exists()]
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is not empty and holds no job to go on with: choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    write_whole(out / "job.json", (json.dumps(facts, indent=1) + "\n").encode())
    return list(range(shards))


def write_shard(predictor: Predictor, paths: Sequence[str], path: Path, job: Job) -> None:
    """Predict `paths` and write a JSON line for each, in order, to `path`, whole or not at all: what `predict` writes
    to NAME.json, or "image" and "error"."""

    def after(source: str, image: Any, poses: Any) -> dict[str, Any]:
        shown = poses[poses.person_scores >= job.least]
        return plain(shown, Path(source), image, predictor.card.model)

    lines = []
    for answer in stream(predictor, paths, after, job.batch, workers=1):
        lines.append(answer.made if answer.error is None else {"image": answer.source, "error": answer.error})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    write_whole(path, text.encode())


class Worker:
    """What Ray Data makes once in each of its processes and calls with shards. The job comes with the shard, because a
    process that is started again may have lost what it was made with (ray-project/ray, issue 53727)."""

    def __init__(self) -> None:
        self.opened: tuple[Job, Predictor] | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        path = Path(row["out"]) / name(int(row["shard"]))
        if not path.exists():  # else finished by a worker that died before it could say so
            job = Job(**json.loads(row["job"]))
            if self.opened is None or self.opened[0] != job:
                self.opened = (job, job.open())
            write_shard(self.opened[1], json.loads(row["paths"]), path, job)
        return {"shard": row["shard"]}


def counts(path: Path) -> dict[str, int]:
    """Pictures, people and errors of a shard that is there; a broken file counts as a `ValueError`."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    bad = sum("error" in line for line in lines)
    return {"pictures": len(lines), "people": sum(len(line.get("people", ())) for line in lines), "errors": bad}


def answers(out: Path) -> Iterator[dict[str, Any]]:
    """The lines of all shards of a finished job, in the order of its pictures; `ValueError` if one is missing."""
    facts = json.loads((out / "job.json").read_bytes())
    for shard in range(facts["shards"]):
        if not (out / name(shard)).exists():
            raise ValueError(f"{out} is not finished: {name(shard)} is missing; run the same command again")
        with (out / name(shard)).open() as lines:
            yield from map(json.loads, lines)


def run(
    job: Job, paths: Sequence[Path], out: Path, workers: int, size: int = SHARD, said: Callable[[str], None] = print
) -> dict[str, int]:
    """Do what is left of a job in `out` with `workers` processes of Ray Data; returns pictures, people and errors of
    all of it. Joins the cluster that `RAY_ADDRESS` names, which must reach `out` and the pictures, or starts one.
    """
    need("ray", "ray.data")
    import ray  # type: ignore[import-not-found]

    paths = [path.absolute() for path in paths]
    out = out.absolute()
    left = begin(job, paths, out, size)
    shards = -(-len(paths) // size)
    if len(left) < shards:
        said(f"{shards - len(left)} of {shards} shards are done already")
    if left:
        job.open()  # a model that cannot be used is said here, before anything is started
        for logger in ("ray", "ray.data"):
            logging.getLogger(logger).setLevel(logging.ERROR)
        if not ray.is_initialized():
            ray.init(log_to_driver=False, logging_level="ERROR", include_dashboard=False)
        ray.data.DataContext.get_current().enable_progress_bars = False
        lists = [json.dumps([str(path) for path in paths[i * size : (i + 1) * size]]) for i in left]
        facts = {"out": str(out), "job": json.dumps(asdict(job))}
        rows = [{"shard": i, "paths": listed, **facts} for i, listed in zip(left, lists, strict=True)]
        data = ray.data.from_items(rows, override_num_blocks=len(rows)).map(
            Worker,
            compute=ray.data.ActorPoolStrategy(size=min(workers, len(rows))),
            num_cpus=1,
            num_gpus=1 if job.device.startswith("cuda") else 0,
        )
        with progress("shards", len(rows)) as step:
            for _ in data.iter_rows():
                step()
    total = {"pictures": 0, "people": 0, "errors": 0}
    for shard in range(shards):
        for key, n in counts(out / name(shard)).items():
            total[key] += n
    return total
