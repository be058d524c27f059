"""Our training step, loader and all, against the bare forward and backward pass: python benchmarks/training.py

The bare pass is the same network on one batch that stays in memory, with a sum of squares for a loss, no optimiser.
Ours is `train.fit` on photographs of 640x480 written for the occasion: reading, augmentation, targets, losses,
optimiser, averaged weights, log. Both take turns, so that whatever else the machine does falls on both. The goal is a
ratio of at most 1.15. `--threads` threads compute; `--workers` processes prepare pictures beside them.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro
from lightning_fabric import Fabric

from edgepose import models, recipes, train
from edgepose.recipes import Recipe

GOAL = 1.15


def photographs(root: Path, count: int = 24) -> None:
    """A COCO folder of noise with three people in each picture."""
    rng = np.random.default_rng(0)
    (root / "coco_small").mkdir()
    images, people = [], []
    for i in range(count):
        noise = cv2.resize(rng.integers(0, 256, (48, 64, 3), np.uint8), (640, 480), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(root / "coco_small" / f"{i}.jpg"), noise)
        images.append({"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480})
        for _ in range(3):
            x, y = rng.uniform(0, 440), rng.uniform(0, 180)
            joints = np.concatenate([rng.uniform(0, 1, (17, 2)) * (200, 300) + (x, y), np.full((17, 1), 2)], 1)
            person = {"id": len(people), "image_id": i, "category_id": 1, "bbox": [x, y, 200, 300], "area": 3e4}
            people.append({**person, "num_keypoints": 17, "keypoints": joints.ravel().tolist()})
    (root / "coco_small.json").write_text(json.dumps({"images": images, "annotations": people}))


def bare(net: torch.nn.Module, batch: torch.Tensor, steps: int) -> float:
    """Milliseconds of a forward and backward pass."""
    begin = time.perf_counter()
    for _ in range(steps):
        loss = torch.stack([(m * m).mean() for m in net(batch)]).sum()
        net.zero_grad()
        loss.backward()
    return 1e3 * (time.perf_counter() - begin) / steps


def main(
    recipe: str = "litepose-xs", size: int = 192, batch: int = 16, steps: int = 10, rounds: int = 4, threads: int = 1,
    workers: int = 1,
) -> None:  # fmt: skip
    """Print both times and their ratio."""
    torch.set_num_threads(threads)
    cv2.setNumThreads(1)
    given = recipes.find(recipe)
    pairs = (("coco", "small"),)
    plan = Recipe(
        given.model, pairs, (), pairs, steps=steps + 2, batch=batch, optimiser=given.optimiser, loss=given.loss,
        focus=given.focus, resolutions=((0.0, size),), augment=given.augment, person=given.person, arch=given.arch,
    )  # fmt: skip
    card = models.card(plan.model)
    net = models.build(card).train().to(memory_format=torch.channels_last)
    wide = (size, size) if isinstance(card.codec.input_size, int) else card.codec.input_size[::-1]  # type: ignore
    images = torch.randn(batch, 3, *wide).contiguous(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {"bare forward + backward": [], "training step": []}
    marks: list[float] = []
    real = train.optim.average

    def average(*args: Any) -> None:  # the last thing that a step does
        real(*args)
        marks.append(time.perf_counter())

    train.optim.average = average
    with tempfile.TemporaryDirectory() as folder:
        photographs(Path(folder))
        plan, shown = train.samples(plan, card.codec, folder, train.records(pairs, folder))
        for turn in range(rounds + 1):
            fast = bare(net, images, steps)
            marks.clear()
            fabric = Fabric(accelerator="cpu", devices=1)
            train.fit(plan, shown, Path(folder) / f"run{turn}", fabric, models.build(card), workers, every=10**9)
            slow = 1e3 * (marks[-1] - marks[1]) / (len(marks) - 2)
            if turn:  # the first round warms up
                times["bare forward + backward"].append(fast)
                times["training step"].append(slow)
    print(f"{plan.model}, {batch} x {wide[1]}x{wide[0]}, {threads} threads, {workers} loader processes")
    for name, ms in times.items():
        print(f"  {name:24} {statistics.median(ms):8.1f} ms")
    fast, slow = (statistics.median(ms) for ms in times.values())
    print(f"ratio {slow / fast:.3f}; goal {GOAL}; {batch * 1e3 / slow:.1f} pictures a second")


if __name__ == "__main__":
    tyro.cli(main)
