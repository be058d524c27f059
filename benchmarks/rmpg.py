"""Does RMPG help a small network, and more than as many plain convolutions? python benchmarks/rmpg.py --root DATA

Trains a host, the host with RMPG's parse graph, and the host with the control (the graph's parameters and multiply-adds
in residual 3x3 convolutions, at the same place), each with several seeds: the same crops in the same order, the same
budget. The host is `efficientlite-0-person` (0.13 GMACs at 128x96) on the trunk of `--init`, its head anew; the module
stands behind the first transposed convolution (+0.04 GMACs). Measured on photographs that are not trained on: COCO
`train115` with labelled boxes (AP) and LSP-Extended `val`, which is split by clusters of near-duplicates (PCK@0.2), and
the heatmap loss on both. A run that is finished is not repeated, and one that was broken off goes on.

`--measure-speed` only says how many crops a second each trains, taking turns on `--threads` threads.
"""

from __future__ import annotations

import json
import statistics
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from lightning_fabric import Fabric

from edgepose import evaluate, models, predictor, recipes, report, runs, train
from edgepose.data._oks import average_precision
from edgepose.data._pck import pck
from edgepose.recipes import Recipe
from edgepose.results import write_whole
from edgepose.runtimes.pytorch import runner

VARIANTS = {"host": "", "graph": "graph", "control": "control"}
INIT = Path(__file__).parents[1] / "checkpoints" / "efficientlite-0-next" / "model.safetensors"
HELD = {"coco": ("coco", "train115"), "lsp": ("lsp", "val")}


def plan_of(variant: str, seed: int, steps: int, batch: int, place: int, base: str) -> Recipe:
    """The recipe of one run: `base` with the variant's refinement, a seed and a budget."""
    given = recipes.find(base)
    arch = {**given.arch, "refine": {"place": place}} if VARIANTS[variant] else given.arch
    return replace(
        given,
        refine=VARIANTS[variant],
        arch=arch,
        seed=seed,
        steps=steps,
        batch=batch,
        local_steps=1,
        warmup=steps // 10,
    )


def network(plan: Recipe, init: Path | None) -> tuple[Any, Any]:
    """Card and network; the same seed gives the host the same first weights in every variant."""
    card = models.card(plan.model)
    codec: Any = replace(card.codec, **plan.codec)  # type: ignore[type-var]
    torch.manual_seed(plan.seed)
    host = models.build(replace(card, arch=runs.merged(card.arch, {**plan.arch, "refine": None}), codec=codec))
    card = replace(card, arch=runs.changed(card.arch, plan, codec.skeleton), codec=codec)
    net = models.build(card)
    net.load_state_dict(host.state_dict(), strict=False)
    if init is not None:
        runs.start(net, models.folder.entry("edgepose.models", card.family), init)
    return card, net


@torch.no_grad()
def held_loss(plan: Recipe, net: Any, codec: Any, records: list[Any], batch: int = 32) -> float:
    """The loss of the heatmaps on a plain crop of every labelled person (no flips, turns or colours)."""
    look = replace(plan.augment, flip=0, colour=0, grey=0, blur=0, occlusion=0)
    still = replace(plan.person, scale=0.0, rotation=0.0, turn=0.0, half_body=0.0, shift=0.0)
    _, shown = train.samples(replace(plan, augment=look, person=still, seed=0), codec, ".", records)
    loss, total, count = train.objective(plan, codec), 0.0, len(shown.people)  # type: ignore[union-attr]
    for first in range(0, count, batch):
        part = torch.utils.data.default_collate([shown[i] for i in range(first, min(count, first + batch))])
        total += float(loss(net.eval()(part["image"]), part, None)["heatmap_0"]) * len(part["image"])
    return total / count


def scores(plan: Recipe, card: Any, net: Any, held: dict[str, list[Any]]) -> dict[str, float]:
    """AP on COCO and PCK@0.2 on LSP with labelled boxes and flip test, and the loss on both."""
    ready = predictor.Predictor(card, card.codec, runner(net.eval()))
    coco = evaluate.detections(ready, held["coco"], boxes=True)
    lsp = evaluate.detections(ready, held["lsp"], boxes=True)
    found = average_precision(held["coco"], coco, crowd=False)
    return {
        "coco AP": found["AP"],
        "coco AP50": found["AP50"],
        "lsp PCK@0.2": pck(held["lsp"], lsp)["Mean"],
        "coco loss": held_loss(plan, net, card.codec, held["coco"]),
        "lsp loss": held_loss(plan, net, card.codec, held["lsp"]),
    }


def one(plan: Recipe, root: Path, out: Path, init: Path | None, workers: int, held: dict[str, list[Any]]) -> dict:
    """Train and measure one run in `out`, or read what it gave before."""
    if (out / "scores.json").exists():
        kept = json.loads((out / "scores.json").read_text())
        if kept["recipe"] != json.loads(json.dumps(runs.asdict(plan))):
            raise ValueError(f"{out} holds a run with other settings; name another --out")
        return kept
    card, net = network(plan, init)
    fabric = Fabric(accelerator="cpu", devices=1)
    whole, shown = train.samples(plan, card.codec, root, train.records(plan.photographs, root))
    averaged, hours = train.fit(whole, shown, out, fabric, net, workers, every=100)
    found = scores(plan, card, averaged, held)
    params = sum(p.numel() for p in averaged.parameters())
    done = {"recipe": runs.asdict(plan), "params": params, "hours": round(hours, 4), **found}
    report.curves(out / "metrics.jsonl", out / "curves.png")
    write_whole(out / "scores.json", json.dumps(done, indent=1).encode())
    return json.loads((out / "scores.json").read_text())


def summary(rows: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Mean and standard deviation over the seeds of every figure, and the paired differences to the host."""
    names = [k for k in next(iter(rows.values()))[0] if k not in ("recipe",)]
    out: dict[str, Any] = {}
    for variant, found in rows.items():
        table = {n: [float(row[n]) for row in found] for n in names}
        out[variant] = {n: {"mean": statistics.mean(v), "sd": _sd(v), "all": v} for n, v in table.items()}
        for n, v in table.items():
            if variant != "host" and "host" in rows:
                base = [float(row[n]) for row in rows["host"]]
                pairs = [a - b for a, b in zip(v, base, strict=False)]
                out[variant][n]["over host"] = {"mean": statistics.mean(pairs), "sd": _sd(pairs)}
    return out


def _sd(values: list[float]) -> float:
    return statistics.stdev(values) if len(values) > 1 else 0.0


def plot(rows: dict[str, list[dict[str, Any]]], folder: Path, picture: Path) -> None:
    """Training loss of every run, and every figure as a dot a seed with the mean."""
    from edgepose.plots import axes, figure, png

    fig = figure(12, 4)
    panels = fig.subplots(1, 4)
    for v, (variant, colour) in enumerate(zip(rows, ("#2b2f36", "#3b6fb6", "#e08a2e"), strict=False)):
        for i in range(len(rows[variant])):
            lines = (folder / f"{variant}-{i}" / "metrics.jsonl").read_text().splitlines()
            points = [(row["step"], row["loss"]) for row in map(json.loads, lines) if "loss" in row]
            panels[0].plot(*zip(*points, strict=True), color=colour, lw=1, label=variant if i == 0 else None)
        for ax, name in zip(panels[1:], ("coco AP", "lsp PCK@0.2", "lsp loss"), strict=True):
            values = [row[name] for row in rows[variant]]
            ax.plot([v] * len(values), values, "o", color=colour, alpha=0.6)
            ax.plot([v - 0.25, v + 0.25], [statistics.mean(values)] * 2, color=colour, lw=2.5)
    axes(panels[0], "training loss").set(yscale="log", xlabel="step")
    panels[0].legend(frameon=False)
    for ax, name in zip(panels[1:], ("coco AP", "lsp PCK@0.2", "lsp loss"), strict=True):
        axes(ax, f"{name}, a dot a seed", "y").set_xticks(range(len(rows)), list(rows))
        ax.set_xlim(-0.6, len(rows) - 0.4)
    write_whole(picture, png(fig))


def speed(base: str, place: int, batch: int, init: Path | None, rounds: int = 7) -> None:
    """Crops a second of a forward and backward pass with an optimiser step, all variants taking turns."""
    nets = {v: network(plan_of(v, 0, 1, batch, place, base), init)[1].train() for v in VARIANTS}
    nets = {v: net.to(memory_format=torch.channels_last) for v, net in nets.items()}
    card = models.card(recipes.find(base).model)
    w, h = card.codec.input_size  # type: ignore[misc]
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((batch, 3, h, w), np.float32))
    images = images.contiguous(memory_format=torch.channels_last)
    times: dict[str, list[float]] = {v: [] for v in VARIANTS}
    for turn in range(rounds + 2):
        for v, net in nets.items():
            begin = time.perf_counter()
            torch.stack([(m * m).mean() for m in net(images)]).sum().backward()
            if turn > 1:
                times[v].append(time.perf_counter() - begin)
    for v, t in times.items():
        ratio = statistics.median(a / b for a, b in zip(t, times["host"], strict=True))
        print(
            f"{v:8} {batch / statistics.median(t):6.1f} crops/s forward and backward; {ratio:.2f} times the host's time"
        )


def main(
    root: Path,
    out: Path = Path("runs/rmpg-study"),
    recipe: str = "efficientlite-0-person",
    init: Path | None = INIT,
    steps: int = 500,
    batch: int = 32,
    seeds: int = 3,
    place: int = 1,
    threads: int = 2,
    workers: int = 0,
    measure_speed: bool = False,
) -> None:
    """Train what is not yet trained, write `out/summary.json` and `out/study.png`, and print the table."""
    torch.set_num_threads(threads)
    if measure_speed:
        return speed(recipe, place, batch, init)
    held = {name: [r for r in train.records((pair,), root) if len(r.truth)] for name, pair in HELD.items()}
    rows: dict[str, list[dict[str, Any]]] = {v: [] for v in VARIANTS}
    for seed in range(seeds):  # all variants of a seed before the next one: a study broken off is still paired
        for variant in VARIANTS:
            plan = plan_of(variant, seed, steps, batch, place, recipe)
            print(f"{variant}, seed {seed}", flush=True)
            rows[variant].append(one(plan, root, out / f"{variant}-{seed}", init, workers, held))
            there = {v: r for v, r in rows.items() if r}
            write_whole(out / "summary.json", json.dumps(summary(there), indent=1).encode())
    plot(rows, out, out / "study.png")
    names = [n for n in rows["host"][0] if n not in ("recipe", "hours")]
    for variant, table in summary(rows).items():
        print(variant, *(f"{n} {table[n]['mean']:.5g} ± {table[n]['sd']:.2g}" for n in names), sep="  ")


if __name__ == "__main__":
    tyro.cli(main)
