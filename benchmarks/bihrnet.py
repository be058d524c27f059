"""The small recipes of BiHRNet with one budget: python benchmarks/bihrnet.py --root DATA --out FOLDER --steps 1500

First the real twin, then one binary run a row of the table, each from the twin's weights and, where the recipe copies a
teacher, taught by it; "two steps" spends a third of its steps with real weights. Finished runs are skipped and broken
ones go on, so the same line may be given again. FOLDER keeps a run folder each (`metrics.jsonl`, `model/`),
`summary.json` and `study.png`. `--speed-only` instead measures crops a second of a training step, real twin and binary
nets in turn, on `--threads` threads, so that a budget can be chosen.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import torch
import tyro

from edgepose import models, optim, plots, recipes
from edgepose.card import Card
from edgepose.results import write_whole

RUNS = {  # folder -> (recipe, what it starts from, share of the steps)
    "twin": ("small-twin", "", 1.0),
    "bireal-mse": ("small-bireal", "twin", 1.0),
    "mse": ("small-mse", "twin", 1.0),
    "awing": ("small-awing", "twin", 1.0),
    "awing-kl": ("small", "twin", 1.0),
    "scratch": ("small", "", 1.0),
    "two-steps-1": ("small-step1", "twin", 1 / 3),
    "two-steps": ("small", "two-steps-1", 2 / 3),
    "plain-front": ("small-plain-front", "twin", 1.0),
    "plain-block": ("small-plain-block", "twin", 1.0),
    "ms-b": ("small-ms-b", "twin", 1.0),
}


def command(name: str, root: Path, out: Path, steps: int, threads: int, workers: int) -> list[str]:
    """The line that trains run `name`, or goes on with it."""
    recipe, start, share = RUNS[name]
    words = [sys.executable, "-m", "edgepose", "train", f"bihrnet-{recipe}", "--root", str(root)]
    words += ["--out", str(out / name), "--threads", str(threads), "--workers", str(workers), "--device", "cpu"]
    if (out / name / "last.ckpt").exists():
        return [*words, "--resume"]
    words += ["--steps", str(round(share * steps)), "--warmup", str(min(200, steps // 10))]
    if start:
        words += ["--init", str(out / start / "model" / "model.safetensors")]
    if recipes.find(f"bihrnet-{recipe}").kl_weight:
        words += ["--teacher", str(out / "twin" / "model")]
    return words


def row(out: Path, name: str) -> dict[str, object]:
    """What run `name` came to."""
    card = Card.read(out / name / "model")
    lines = [json.loads(line) for line in (out / name / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    figures = {k: v for k, v in card.scores.items() if isinstance(v, float)}
    costs = {"params": card.params, "gmacs": card.gmacs, "gops": card.gops, "hours": float(card.hours or 0)}
    plan = json.loads((out / name / "recipe.json").read_text())
    return {"run": name, "recipe": RUNS[name][0], "steps": plan["steps"], **costs, "loss": steps[-1]["loss"], **figures}


def picture(out: Path, rows: list[dict]) -> bytes:
    """Loss over steps, and the AP of each run."""
    fig = plots.figure(11, 4.4)
    left, right = fig.subplots(1, 2, width_ratios=(1.2, 1))
    plots.axes(left, "Heatmap loss over its first value")
    for r in rows:
        lines = [json.loads(line) for line in (out / r["run"] / "metrics.jsonl").read_text().splitlines()]
        points = [(line["step"], line["heatmap_0"]) for line in lines if "heatmap_0" in line]
        left.plot([p[0] for p in points], [p[1] / points[0][1] for p in points], label=r["run"], linewidth=1.4)
    left.set_xlabel("step", color=plots.INK)
    left.legend(frameon=False, fontsize=8, ncols=2)
    plots.axes(right, "AP on coco train115, labelled boxes", "x")
    shown = [r for r in rows if "AP" in r]
    right.barh([r["run"] for r in shown], [r["AP"] for r in shown], 0.7, color=plots.SERIES[0])
    for i, r in enumerate(shown):
        right.annotate(f"{r['AP']:.3f}", (r["AP"], i), (4, 0), textcoords="offset points", va="center", fontsize=8)
    right.invert_yaxis()
    right.margins(x=0.15)
    return plots.png(fig)


def speed(threads: int, rounds: int = 7, batch: int = 32) -> None:
    """Crops a second of forward, backward and optimiser step, without the loader; the nets take turns."""
    torch.set_num_threads(threads)
    nets, times = {}, {}
    for name in ("small-twin", "small", "small-plain-block", "small-ms-b"):
        plan = recipes.find(f"bihrnet-{name}")
        card = models.card(plan.model)
        net = models.build(Card(card.model, card.arch | plan.arch, card.codec)).train()
        net = net.to(memory_format=torch.channels_last)
        nets[name], times[name] = (net, optim.make(net, plan.optimiser, 1e-4, 0.0)), []
    images = torch.randn(batch, 3, 128, 96).contiguous(memory_format=torch.channels_last)
    target = torch.rand(batch, 17, 32, 24)
    for turn in range(rounds + 2):
        for name, (net, optimiser) in nets.items():
            begin = time.perf_counter()
            (net(images)[0] - target).square().mean().backward()
            optimiser.step()
            optimiser.zero_grad()
            if turn >= 2:  # warm
                times[name].append(time.perf_counter() - begin)
    for name, seconds in times.items():
        print(f"{name:18} {batch / statistics.median(seconds):7.1f} crops/s, best {batch / min(seconds):7.1f}")


def main(
    root: Path = Path("DATA"), out: Path = Path("bihrnet-study"), steps: int = 1500, threads: int = 2, workers: int = 1,
    only: tuple[str, ...] = (), speed_only: bool = False,
) -> None:  # fmt: skip
    """Run the table, or those rows of it that `only` names (and what they start from)."""
    if speed_only:
        return speed(threads)
    if unknown := set(only) - set(RUNS):
        raise SystemExit(f"no runs called {sorted(unknown)}; known: {', '.join(RUNS)}")
    needed = set(only) | {RUNS[n][1] for n in only} | {"twin"}
    out.mkdir(parents=True, exist_ok=True)
    rows = []
    for name in [n for n in RUNS if not only or n in needed]:
        if not (out / name / "curves.png").exists():  # the last thing that a run writes
            print(f"== {name}", flush=True)
            environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
            done = subprocess.run(command(name, root, out, steps, threads, workers), env=environment)
            if done.returncode:
                raise SystemExit(f"{name} stopped with code {done.returncode}; the same line goes on from there")
        rows.append(row(out, name))
        write_whole(out / "summary.json", (json.dumps(rows, indent=1) + "\n").encode())
        write_whole(out / "study.png", picture(out, rows))
    keys = ("run", "steps", "gops", "hours", "loss", "AP", "AP50")
    for r in [dict.fromkeys(keys, ""), *rows]:
        cells = [key if not r["run"] else str(r.get(key, "")) for key in keys]
        print("  ".join(f"{cell:>14}" for cell in cells))
    return None


if __name__ == "__main__":
    tyro.cli(main)
