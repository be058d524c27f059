"""What a training run leaves for people to look at: metrics.jsonl, TensorBoard, loss curves, a sheet of predictions."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from edgepose import contact
from edgepose.data import Record
from edgepose.poses import Poses
from edgepose.results import jpeg, write_whole

EVERY = 50  # steps a line


class Log:
    """The progress bar, `metrics.jsonl` and, where it is installed, TensorBoard, of one run; silent unless `main`.

    out: run folder. step, seconds: where the run goes on; what was logged after that is dropped.
    """

    def __init__(self, out: Path, plan: Any, step: int, seconds: float, main: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self.bar = Progress(*columns, console=Console(stderr=True), disable=not main)
        self.task = self.bar.add_task(plan.model, total=plan.steps, completed=step)
        self.file, self.plan, self.main, self.before = out / "metrics.jsonl", plan, main, (step, seconds)
        self.sums: dict[str, Any] = {}
        self.count = 0
        self.board: Any = None
        if main:
            _forget(self.file, step)
            if find_spec("tensorboard"):
                from torch.utils.tensorboard import SummaryWriter

                self.board = SummaryWriter(str(out / "tensorboard"), purge_step=step)

    def __enter__(self) -> Log:
        self.bar.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.bar.stop()
        if self.board:
            self.board.close()

    def add(self, terms: dict[str, Any]) -> None:
        """Count the terms of one forward pass."""
        self.sums = {k: self.sums.get(k, 0) + v for k, v in terms.items()}
        self.count += 1

    def step(self, step: int, lr: float, seconds: float, size: int) -> None:
        """After optimiser step `step`; `size` is the width of the input."""
        self.bar.advance(self.task)
        if step % EVERY and step != self.plan.steps:
            return
        means = {k: round(float(v) / self.count, 6) for k, v in self.sums.items()}
        speed = (step - self.before[0]) * self.plan.batch / max(1e-9, seconds - self.before[1])
        self.sums, self.count, self.before = {}, 0, (step, seconds)
        self.bar.update(self.task, description=f"{self.plan.model} loss {means['loss']:.4g}, {speed:.3g} pictures/s")
        row = {"step": step, "seconds": round(seconds, 1), "lr": lr, **means, "rate": round(speed, 2), "size": size}
        self._write(row, step)

    def figures(self, step: int, scores: dict[str, float]) -> None:
        """Figures on the validation photographs after `step`."""
        self._write({"step": step, **{k: round(v, 5) for k, v in scores.items()}}, step)

    def _write(self, row: dict[str, Any], step: int) -> None:
        if not self.main:
            return
        with open(self.file, "a") as file:
            file.write(json.dumps(row) + "\n")
        if self.board:
            for name, value in row.items():
                if name != "step":
                    self.board.add_scalar(name, value, step)


def _forget(metrics: Path, step: int) -> None:
    """Drop the lines that were logged after the checkpoint at `step`."""
    if metrics.exists():
        lines = [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] <= step]
        metrics.with_suffix(".part").write_text("".join(line + "\n" for line in lines))
        os.replace(metrics.with_suffix(".part"), metrics)


def curves(metrics: Path, picture: Path) -> None:
    """Draw the loss terms, the learning rate and the validation figures of `metrics.jsonl` as a PNG."""
    from matplotlib.figure import Figure

    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    steps = [row for row in rows if "loss" in row]
    checks = [row for row in rows if "loss" not in row]
    skip = {"step", "seconds", "lr", "rate", "size"}
    terms = [name for name in steps[0] if name not in skip] if steps else []
    figure = Figure(figsize=(12, 4.2), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    for name in terms:
        at = [row["step"] for row in steps]
        left.plot(at, [row[name] for row in steps], label=name, lw=2.2 if name == "loss" else 1.2)
    left.set(title="training loss", xlabel="step", yscale="log")
    left.legend(frameon=False, fontsize=8)
    middle.plot([row["step"] for row in steps], [row["lr"] for row in steps], color="tab:gray")
    middle.set(title="learning rate", xlabel="step")
    if checks:
        for name in [n for n in checks[0] if n != "step"][:3]:
            right.plot([row["step"] for row in checks], [row[name] for row in checks], "o-", label=name)
        right.legend(frameon=False, fontsize=8)
        right.set(title="validation (averaged weights)", xlabel="step", ylim=(0, None))
    else:
        right.plot([row["step"] for row in steps], [row["rate"] for row in steps], color="tab:green")
        right.set(title="pictures a second", xlabel="step", ylim=(0, None))
    for axes in (left, middle, right):
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    part = picture.with_name("." + picture.name)
    figure.savefig(part, format="png", dpi=110)
    os.replace(part, picture)


def sheet(
    predict: Callable[[Record], Poses],
    records: Sequence[Record],
    picture: Path,
    count: int = 12,
    least: float = 0.15,
) -> None:
    """A JPEG of `count` photographs, the people that `predict` finds with a score from `least` drawn on each."""
    chosen = [records[i] for i in np.unique(np.linspace(0, len(records) - 1, min(count, len(records))).astype(int))]
    cells = []
    for record in chosen:
        poses = predict(record)
        sure = poses if poses.person_scores is None else poses[poses.person_scores >= least]  # type: ignore[operator]
        cells.append(contact.cell(record.read(), sure, record.name))
    write_whole(picture, jpeg(contact.sheet(cells, "predictions on validation photographs", 4), picture))
