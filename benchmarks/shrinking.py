"""Gradual shrinking (LitePose, section 3.1): python benchmarks/shrinking.py DATA --out RUN

Trains HigherHRNet-W16 and its three shrunken forms (fewer residual blocks at high resolution, step by step to a single
branch) on one data set (--photographs coco small --validation coco train115, say), at one --size and for as many
--epochs or --steps, and draws AP against multiply-adds. The paper trains 300 epochs on CrowdPose at 512 px. Stop it at
any time: started again, it goes on. RUN/summary.json and RUN/shrinking.png are written anew after each network.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from edgepose import plots, recipes, runs
from edgepose.card import Card
from edgepose.results import write_whole

SERIES = ("w16", "shrink1", "shrink2", "shrink3")


def chart(rows: list[dict[str, Any]], what: str) -> bytes:
    """AP against multiply-adds, the networks in the order they are shrunk."""
    fig = plots.figure(6.4, 4.6)
    ax = plots.axes(fig.subplots(), f"Gradual shrinking, {what}")
    ax.plot([r["gmacs"] for r in rows], [r["AP"] for r in rows], "o-", color=plots.SERIES[0], linewidth=1.8)
    for row in rows:
        ax.annotate(row["name"], (row["gmacs"], row["AP"]), (6, 5), textcoords="offset points", color=plots.INK)
    ax.set(xlabel="GMACs", ylabel="AP")
    ax.margins(0.15)
    return plots.png(fig)


def main(
    root: tyro.conf.Positional[Path],
    out: Path,
    photographs: tuple[str, str] = ("crowdpose", "trainval"),
    validation: tuple[str, str] = ("crowdpose", "test"),
    size: int = 512,
    epochs: float = 300.0,
    steps: int = 0,
    batch: int = 16,
    networks: tuple[str, ...] = SERIES,
    devices: int = 1,
    threads: int | None = None,
) -> None:
    """Train what is not trained yet, then write the summary and the chart. `steps`, if given, stands for `epochs`."""
    plan = replace(recipes.find("higherhrnet-w16"), photographs=(photographs,), validation=(validation,))
    long: dict[str, Any] = {"steps": steps, "epochs": 0.0} if steps else {"steps": 0, "epochs": epochs}
    plan = replace(plan, **long, batch=batch, codec={**plan.codec, "input_size": size}, data=" ".join(photographs))
    plan = replace(plan, warmup=min(plan.warmup, steps // 5) if steps else plan.warmup)
    rows: list[dict[str, Any]] = []
    for name in networks:
        run = out / name
        if not (run / "model" / "card.json").exists() or not Card.read(run / "model").scores:
            given = replace(plan, model=f"higherhrnet-{name}")
            going = (run / "last.ckpt").exists()
            runs.run(given.model, root, run, given, devices=devices, threads=threads, save_every=100, resume=going)
        card = Card.read(run / "model")
        rows.append({"name": name, "AP": card.scores["AP"], "gmacs": card.gmacs, "gmacs_paper": card.gmacs_paper})
        rows[-1] |= {"params": card.params, "hours": card.hours}
        what = f"{size} px, {' '.join(validation)}, " + (f"{steps} steps" if steps else f"{epochs:g} epochs")
        write_whole(out / "summary.json", json.dumps({"what": what, "networks": rows}, indent=1).encode())
        write_whole(out / "shrinking.png", chart(rows, what))
        print(f"{name:8} {card.gmacs} GMACs, AP {card.scores['AP']:.4f}")


if __name__ == "__main__":
    tyro.cli(main)
