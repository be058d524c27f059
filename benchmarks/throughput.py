"""Pictures a second, one after another against several at once: python benchmarks/throughput.py

From photographs on disk to poses. "one by one": a loop over `predictor(path)` with one CPU thread, and with all of them
inside the network; "many": `predictor.many(paths)` with one thread, with all threads, and in batches. All take turns,
so that whatever else the machine does falls on all; ratios are of one round each. `--write` also draws and writes, as
`edgepose predict` does. The goal on two cores is 1.7 times the loop with one thread.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and OpenCV start their threads

import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import tyro

import edgepose
from edgepose.pipeline import stream
from edgepose.predict import writer
from edgepose.runtimes import cpus
from edgepose.sources import find
from edgepose.weights import DEFAULT

GOAL = 1.7
PHOTOS = Path(__file__).parents[1] / "examples" / "photos"


def main(
    model: str = DEFAULT,
    pictures: Path = PHOTOS,
    count: int = 20,
    rounds: int = 7,
    batches: tuple[int, ...] = (1, 4),
    threads: int = cpus(),
    write: bool = False,
) -> None:
    """Print pictures a second and ratios to the loop with one thread (medians over rounds)."""
    found = find(pictures)
    paths = (found * (count // len(found) + 1))[:count]
    one, all_ = edgepose.load(model, threads=1), edgepose.load(model, threads=threads)
    with tempfile.TemporaryDirectory() as out:
        names = {path: path.stem for path in found}
        after = writer(one, names, Path(out), None) if write else None

        def loop(predictor: Any) -> None:
            cv2.setNumThreads(predictor.threads)
            for path in paths:
                image = predictor.read(path)
                poses = predictor(image)
                if after:
                    after(path, image, poses)

        def many(workers: int, batch: int) -> None:
            for answer in stream(one, paths, after, batch, workers):
                assert answer.error is None, answer.error

        ways: dict[str, Any] = {"one by one, 1 thread": lambda: loop(one)}
        ways[f"one by one, {threads} threads"] = lambda: loop(all_)
        ways["many, 1 worker"] = lambda: many(1, 1)
        for batch in batches:
            ways[f"many, {threads} workers, batch {batch}"] = lambda batch=batch: many(threads, batch)
        times: dict[str, list[float]] = {name: [] for name in ways}
        for turn in range(rounds + 1):
            for name, way in ways.items():
                begin = time.perf_counter()
                way()
                if turn:  # the first round warms up
                    times[name].append(time.perf_counter() - begin)
    first = times["one by one, 1 thread"]
    print(f"{model}: {count} photographs{', drawn and written' if write else ''}, {rounds} rounds, {cpus()} CPUs")
    for name, seconds in times.items():
        ratios = sorted(a / b for a, b in zip(first, seconds, strict=True))
        speed, ratio = count / statistics.median(seconds), statistics.median(ratios)
        print(f"  {name:28} {speed:7.1f} pictures/s   {ratio:5.2f} x   (rounds {ratios[0]:.2f} to {ratios[-1]:.2f})")
    print(f"goal {GOAL}")


if __name__ == "__main__":
    tyro.cli(main)
