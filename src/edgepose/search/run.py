"""`edgepose search`: from a recipe, photographs and a budget to the network that fits the device."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning_fabric import Fabric
from tyro.conf import FlagCreatePairsOff, Positional, arg

from edgepose import plots, runs, weights
from edgepose.card import Card
from edgepose.recipes import Recipe
from edgepose.results import write_whole
from edgepose.runtimes import cpus, need
from edgepose.search import evolve
from edgepose.search.cost import FORM, Budget, price
from edgepose.search.score import Judge, Scores, judge
from edgepose.search.space import Candidate, Space


def run(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    root: Path,
    out: Path,
    budget: Annotated[tuple[str, ...], arg(metavar="BUDGET...")],
    plan: runs.Plan,
    init: Path | None = None,
    supernet: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    pareto: FlagCreatePairsOff[bool] = False,
    workers: int | None = None,
    threads: int | None = None,
    save_every: int = 50,
    resume: FlagCreatePairsOff[bool] = False,
) -> int:
    """Find the network of a recipe's search space that is best within a budget.

    Trains the supernet, judges its subnets, and leaves the best as a model folder with the weights it inherits. Every
    field of the recipe is a flag, as for `edgepose train`; those of the search begin with --search.

    Args:
        recipe: name of a recipe with a search space, for example litepose-xs-supernet.
        root: folder with the data sets that the recipe names.
        out: folder of the search; keeps recipe.json, supernet/, scores.*.jsonl, search.json, front.png and model/.
        budget: the most that the network may cost, one or more of: 1.2gmacs, 4.5gmacs-paper, 4MB, 1.7Mparams,
            20ms@TABLE.json (a table by `edgepose bench --table`). The first is the axis of the front.
        init: weights that the supernet starts from (see `edgepose train --init`); its channels are then sorted.
        supernet: a trained supernet: the model/ of `edgepose train` with the same recipe, or an imported one.
        pareto: look for the best at every cost up to the budget, by NSGA-II (needs the extra `search`).
        workers: processes that judge subnets, 0 for none besides this one; by default as many as CPUs.
        threads: CPU threads of the supernet's training.
        save_every: steps between checkpoints of the supernet.
        resume: go on with the search in `out`, or search again there with another budget.
    """
    budgets = [Budget.parse(text) for text in budget]
    if not budgets:
        raise ValueError(f"name a budget: {FORM}")
    if not plan.search.space:
        raise ValueError(f"the recipe {recipe} has no search space; litepose-xs-supernet has one")
    if (out / "recipe.json").exists() and not resume:
        raise ValueError(f"{out} holds an earlier search; go on with --resume or name another folder")
    if pareto:
        need("search", "pymoo")
    place, places = _together(supernet)
    out.mkdir(parents=True, exist_ok=True)
    if place == 0:
        plan.write(out / "recipe.json")
    if places > 1:
        torch.distributed.barrier()
    if supernet is None:
        supernet = trained(recipe, root, out / "supernet", plan, init, threads, save_every)
    ready = judge(supernet, out / "recipe.json", root)
    within = affordable(ready.space, budgets)
    print(ready.space) if place == 0 else None
    scores = _search(
        out, supernet, root, plan, ready.space, budgets, pareto, cpus() if workers is None else workers, (place, places)
    )
    if place == 0:
        _report(recipe, out, ready, {c: s for c, s in scores.items() if within(c)}, budgets)
    if places > 1:
        torch.distributed.destroy_process_group()
    return 0


def _together(supernet: Path | None) -> tuple[int, int]:
    """Number of this process and of all that torchrun has started to search together; (0, 1) alone."""
    places = int(os.environ.get("WORLD_SIZE", "1"))
    if places == 1:
        return 0, 1
    if supernet is None:
        raise ValueError("several processes search with a supernet that is there: train it first, then add --supernet")
    here = int(os.environ["LOCAL_WORLD_SIZE"])
    fabric = Fabric(accelerator="cpu", devices=here, num_nodes=places // here, strategy="ddp")
    fabric.launch()
    return fabric.global_rank, places


def trained(
    recipe: str, root: Path, out: Path, plan: Recipe, init: Path | None, threads: int | None, save_every: int
) -> Path:
    """The model folder of the supernet in the run folder `out`, trained there, or further, unless it is done."""
    if not (out / "model" / "card.json").exists():
        going = (out / "last.ckpt").exists()
        if going:  # with the sizes of what it started from
            plan, init = Recipe.read(out / "recipe.json"), None
        runs.run(recipe, root, out, plan, init, threads=threads, save_every=save_every, resume=going)
    return out / "model"


def affordable(space: Space, budgets: list[Budget]) -> Callable[[Candidate], bool]:
    """Whether a candidate is within every budget; `ValueError` if not even the smallest is."""
    for budget in budgets:
        least = budget(space.smallest())
        if least > budget.limit:
            raise ValueError(f"budget {budget.text}: the smallest network of the space costs {least:.4g}{budget.unit}")
    return lambda candidate: all(budget.fits(candidate) for budget in budgets)


def _search(
    out: Path, supernet: Path, root: Path, plan: Recipe, space: Space, budgets: list[Budget], pareto: bool,
    workers: int, where: tuple[int, int],
) -> dict[Candidate, float]:  # fmt: skip
    fits, how = affordable(space, budgets), plan.search
    with (
        _bar(how.generations + 1, where[0] == 0) as (scored, after),
        Scores(out, supernet, out / "recipe.json", root, workers, *where, scored) as scores,
    ):
        if pareto:
            return evolve.nsga2(space, scores, budgets[0], fits, how, plan.seed, after)
        return evolve.evolve(space, scores, fits, how, plan.seed, after)


@contextmanager
def _bar(generations: int, main: bool) -> Iterator[tuple[Callable[[], None], Callable[[], None]]]:
    """A progress bar over generations; what is called after every score and after every generation."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    count = 0
    with Progress(*columns, console=Console(stderr=True), disable=not main or not sys.stderr.isatty()) as bar:
        task = bar.add_task("generations", total=generations)

        def scored() -> None:
            nonlocal count
            count += 1
            bar.update(task, description=f"generations, {count} newly scored")

        yield scored, lambda: bar.advance(task)


def _report(recipe: str, out: Path, ready: Judge, scores: Mapping[Candidate, float], budgets: list[Budget]) -> None:
    """Print and draw the front, write search.json, and the winner as a model folder."""
    axis, measure = budgets[0], ready.plan.search.score
    front = evolve.front(dict(scores), axis)
    winner = front[-1]
    rows = [_row(ready.space, c, scores[c], budgets) for c in front]
    _print(rows, measure)
    about = {"budget": [b.text for b in budgets], "score": measure, "scored": len(scores)}
    facts = {**about, "candidates": len(ready.space), "winner": rows[-1], "front": rows}
    points = [(axis(c), s) for c, s in scores.items()]
    line = [(axis(c), scores[c]) for c in front]
    unit = f"{axis.unit} (budget {axis.limit:g})"
    write_whole(out / "front.png", plots.pareto(points, line, axis.limit, unit, f"{measure} of inherited weights"))
    write_whole(out / "search.json", json.dumps(facts, indent=1).encode())
    save(ready, winner, out / "model", f"{measure} {scores[winner]:.4f} on {len(ready.held)} photographs kept apart")
    for table in (b.table for b in budgets if b.table):
        how = f"sums of blocks times {table.scale:.2f}, off by {table.error:.0%} at most on whole networks"
        print(f"ms: {table.engine}, {table.threads} threads; {how}")
    print(f"{len(scores)} of {len(ready.space):,} candidates scored; the best within {', '.join(about['budget'])}:")
    print(f"  {out}/model; go on with: edgepose train RECIPE --root DATA --out RUN --init {out}/model")


def _row(space: Space, candidate: Candidate, score: float, budgets: list[Budget]) -> dict[str, Any]:
    names = [name for name, _ in space.choices]
    found = price(candidate)
    costs = {"params": found.params, "gmacs": found.gmacs, "gmacs_paper": found.gmacs_paper}
    costs |= {b.unit: round(b(candidate), 4) for b in budgets if b.unit == "ms"}
    return {"score": score, **costs, "choices": dict(zip(names, space.values(candidate), strict=True))}


def _print(rows: list[dict[str, Any]], measure: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE, title="Pareto front")
    costs = [name for name in rows[0] if name not in ("score", "choices")]
    for name in (measure, *costs, *rows[0]["choices"]):
        table.add_column(name, justify="right")
    for row in rows:
        table.add_row(*(str(row[n]) for n in ("score", *costs)), *map(str, row["choices"].values()))
    Console(width=None if sys.stdout.isatty() else 180, highlight=False).print(table)


def save(ready: Judge, candidate: Candidate, out: Path, notes: str = "") -> Card:
    """Write a candidate as a model folder, whole or not at all: inherited weights, BatchNorm statistics of its own."""
    net, part = ready.subnet(candidate), out.with_name(f".{out.name}.part")
    plain: dict[str, Any] = {"scores": {}, "hours": "", "command": ""}
    card = replace(ready.card, arch=asdict(candidate.arch), codec=ready.codec(candidate), **plain)
    card = runs.sized(replace(card, model=card.family), net)
    made = "weights inherited from a supernet, not trained further"
    shutil.rmtree(part, ignore_errors=True)
    card = weights.save(part, replace(card, notes="; ".join(filter(None, [made, notes]))), net)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return card
