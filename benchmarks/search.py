"""Does the search find better networks than hand and chance? python benchmarks/search.py DATA --out RUN

DATA: folder with `coco small`, `lsp train` and `coco train115`. One supernet (recipe litepose-xs-supernet, from
checkpoints/litepose-xs) is trained and searched under two budgets. For each: the winner, the best of as many candidates
drawn at random, and a hand-made network (every width cut alike, the largest within the budget) inherit their weights
from it and are fine-tuned alike (recipe litepose-xs-part), then judged on photographs that neither training nor search
has seen. And: the rank correlation (Spearman) of the search's score with the score after fine-tuning, over `--ranked`
candidates. Stop it at any time: started again, it goes on. `--measure` only prints pictures a second.
"""

from __future__ import annotations

import json
import statistics
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from scipy.stats import spearmanr

from edgepose import evaluate, plots, predictor, recalibrate, recipes
from edgepose.data import coco
from edgepose.results import write_whole
from edgepose.runtimes import cpus
from edgepose.search import evolve, score
from edgepose.search import run as search
from edgepose.search.cost import Budget
from edgepose.search.space import Candidate, Space

RECIPE, TUNE = "litepose-xs-supernet", "litepose-xs-part"


def hand_made(space: Space, budget: Budget) -> Candidate:
    """All widths cut to the same place in their lists; of these, at any input size, the dearest within the budget."""
    sizes = dict(space.choices).get("size", (space.largest.size,))
    found = []
    for size in sizes:
        for share in np.linspace(0, 1, 13):
            values = [size if n == "size" else v[round(share * (len(v) - 1))] for n, v in space.choices]
            found.append(space.candidate(values))
    return max(filter(budget.fits, found), key=budget)


def judged(folder: Path, root: Path, ap: bool) -> dict[str, float]:
    """The figures of a model folder on `coco train115`: peaks, and AP where asked for."""
    records = coco.read(root, "train115")
    ready = predictor.load(folder, runtime="pytorch")
    codec: Any = ready.codec
    found = {"peaks": score.peaks(codec, partial(score.run, recalibrate.load(folder)), records)}
    if ap:
        net = partial(score.run, recalibrate.load(folder))
        ready = predictor.Predictor(ready.card, codec, net)
        found["AP"] = coco.score(records, evaluate.detections(ready, records))["AP"]
    return found


def tuned(ready: score.Judge, candidate: Candidate, out: Path, root: Path, steps: int, ap: bool) -> dict[str, float]:
    """Figures of a candidate before and after fine-tuning, in `out`; read from there if it is done."""
    done = out / "figures.json"
    if not done.exists():
        if not (out / "start" / "card.json").exists():
            search.save(ready, candidate, out / "start")
        if not (out / "run" / "model" / "card.json").exists():
            plan = replace(recipes.find(TUNE), steps=steps, validation=(), warmup=min(20, steps // 5))
            search.trained(TUNE, root, out / "run", plan, out / "start", None, 50)
        before, after = judged(out / "start", root, ap), judged(out / "run" / "model", root, ap)
        write_whole(done, json.dumps({"before": before, "after": after}).encode())
    return json.loads(done.read_text())


def rate(metrics: Path) -> float:
    """Pictures a second, the median of a run."""
    rows = [json.loads(line) for line in metrics.read_text().splitlines()]
    return statistics.median(row["rate"] for row in rows if "rate" in row)


def main(
    root: tyro.conf.Positional[Path],
    out: Path,
    steps: int = 300,
    tune_steps: int = 100,
    budgets: tuple[str, ...] = ("0.18gmacs", "0.3gmacs"),
    population: int = 16,
    generations: int = 6,
    ranked: int = 12,
    batch: int = 16,
    threads: Annotated[int, tyro.conf.arg(help="of the training; the search takes a process per CPU")] = 2,
    init: Path = Path("checkpoints/litepose-xs"),
    overrides: Annotated[Path | None, tyro.conf.arg(help="JSON: fields of the recipe to change, for trials")] = None,
    measure: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> None:
    """Run, or go on with, the study in `out`; it ends with summary.json and ranks.png there."""
    torch.set_num_threads(threads)
    plan = replace(recipes.find(RECIPE), steps=10 if measure else steps, batch=batch)
    plan = replace(plan, search=replace(plan.search, population=population, generations=generations))
    if overrides:
        change = json.loads(overrides.read_text())
        plan = replace(plan, **{**change, "search": replace(plan.search, **change.get("search", {}))})
    out.mkdir(parents=True, exist_ok=True)
    if measure:
        search.trained(RECIPE, root, out / "measure", plan, init, threads, 10**9)
        print(f"supernet: {rate(out / 'measure' / 'metrics.jsonl'):.2f} pictures/s, {threads} threads")
        return
    supernet = search.trained(RECIPE, root, out / "supernet", plan, init, threads, 50)
    if not (out / "recipe.json").exists():
        plan.write(out / "recipe.json")
    ready = score.judge(supernet, out / "recipe.json", root)
    summary: dict[str, Any] = {"candidates": len(ready.space), "rate": rate(out / "supernet" / "metrics.jsonl")}
    summary |= {"steps": steps, "tune_steps": tune_steps, "budgets": {}}
    with score.Scores(out, supernet, out / "recipe.json", root, cpus()) as scores:
        for text in budgets:
            summary["budgets"][text] = compare(ready, scores, Budget.parse(text), out / text, root, tune_steps)
            print(json.dumps({text: summary["budgets"][text]}, indent=1))
        widest = max((Budget.parse(text) for text in budgets), key=lambda b: b.limit)
        draw = evolve.Drawer(ready.space, widest.fits, 99)
        drawn = draw.several(ranked, draw.random)
        proxies = scores(drawn)
    after = [
        tuned(ready, c, out / "ranked" / str(i), root, tune_steps, False)["after"]["peaks"] for i, c in enumerate(drawn)
    ]
    found: Any = spearmanr(proxies, after)
    summary["spearman"] = {"rho": float(found.statistic), "p": float(found.pvalue), "proxy": proxies, "after": after}
    fig = plots.figure(5.6, 4.6)
    ax = plots.axes(fig.subplots(), f"{ranked} subnets: Spearman {found.statistic:.2f} (p {found.pvalue:.2g})")
    ax.scatter(proxies, after, color=plots.SERIES[0])
    ax.set(
        xlabel="peaks of inherited weights, photographs kept apart", ylabel="peaks after fine-tuning, other photographs"
    )
    write_whole(out / "ranks.png", plots.png(fig))
    write_whole(out / "summary.json", json.dumps(summary, indent=1).encode())
    print(
        f"Spearman {found.statistic:.3f} (p {found.pvalue:.2g}) over {ranked} subnets -> {out}/summary.json, ranks.png"
    )


def compare(
    ready: score.Judge, scores: score.Scores, budget: Budget, out: Path, root: Path, steps: int
) -> dict[str, Any]:
    """Winner, best of chance at the same number of scores, and a hand-made network: choices and figures of each."""
    how, plan = ready.plan.search, ready.plan
    evolved = evolve.evolve(ready.space, scores, budget.fits, how, plan.seed)
    chance = evolve.at_random(ready.space, scores, budget.fits, len(evolved), plan.seed + 1)
    hand = hand_made(ready.space, budget)
    nets = {
        "evolution": max(evolved, key=lambda c: evolved[c]),
        "random search": max(chance, key=lambda c: chance[c]),
        "hand-made": hand,
    }
    proxy = {**evolved, **chance, hand: scores([hand])[0]}
    found: dict[str, Any] = {"scored": len(evolved)}
    for name, candidate in nets.items():
        figures = tuned(ready, candidate, out / name.replace(" ", "-"), root, steps, True)
        choices = dict(zip([n for n, _ in ready.space.choices], ready.space.values(candidate), strict=True))
        found[name] = {"cost": round(budget(candidate), 4), "proxy": proxy[candidate], **figures, "choices": choices}
    return found


if __name__ == "__main__":
    tyro.cli(main)
