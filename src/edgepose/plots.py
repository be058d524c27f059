"""Plots of evaluations, as PNG files in memory. matplotlib is imported where it draws, and needs no screen."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

INK, GRID = "#2b2f36", "#d9dce1"
SERIES = ("#3b6fb6", "#e08a2e")
KINDS = {"good": "#a9c6df", "jitter": "#f2d16b", "inversion": "#e58f3a", "swap": "#c14f4a", "miss": "#7d5390"}
KINDS |= {"not found": "#c6c9ce"}


def figure(width: float, height: float) -> Any:
    """An empty matplotlib figure in inches, off screen."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained", facecolor="white")


def axes(ax: Any, title: str = "", grid: str = "both") -> Any:
    """Light axes: no frame, a pale grid along `grid` ("x", "y" or "both"), the title at the left."""
    ax.spines[["top", "right", "left", "bottom"]].set_visible(False)
    ax.tick_params(length=0, colors=INK, labelsize=9)
    ax.grid(True, axis=grid, color=GRID, linewidth=0.8)
    ax.set_axisbelow(True)
    if title:
        ax.set_title(title, loc="left", fontsize=11, color=INK, fontweight="bold", pad=10)
    return ax


def png(fig: Any) -> bytes:
    """The figure as a PNG file, 150 pixels an inch."""
    data = io.BytesIO()
    fig.savefig(data, format="png", dpi=150)
    return data.getvalue()


def precision_recall(precision: NDArray[np.float64], title: str) -> bytes:
    """Precision over recall (10, 101) at similarities 0.5, 0.55, ... 0.95, with the area (AP) of each in the legend."""
    from matplotlib import colormaps

    fig = figure(7.4, 4.8)
    ax = axes(fig.subplots())
    recall, shades = np.linspace(0, 1, 101), colormaps["viridis"](np.linspace(0.0, 0.9, 10))
    for i, curve in enumerate(np.maximum(precision, 0)):
        bold = i in (0, 5)
        end = np.flatnonzero(curve > 0).max(initial=-1) + 1  # beyond it nobody is found
        x, y = np.append(recall[:end], recall[max(end - 1, 0)]), np.append(curve[:end], 0.0)
        label = f"{0.5 + 0.05 * i:.2f}   AP {curve.mean():.3f}"
        ax.plot(x, y, color=shades[i], linewidth=2.4 if bold else 1.3, label=label, zorder=3 if bold else 2)
    ax.set(xlim=(0, 1), ylim=(0, 1.02))
    ax.set_xlabel("recall: share of the labelled people found", color=INK)
    ax.set_ylabel("precision: share of the detections that are right", color=INK)
    whole = f"AP {np.maximum(precision, 0).mean():.3f}"
    fig.suptitle(f"{title}: {whole}", x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK)
    note = ax.legend(title="similarity (OKS)", loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9)
    note.get_title().set_fontsize(9)
    return png(fig)


def faults(names: Sequence[str], reports: Sequence[Mapping[str, Any]], title: str) -> bytes:
    """Reports of `errors.analyse`: share of the labels per kind, AP gain per kind, shares per joint and person size."""
    fig = figure(11.5, 4.2 + 3.2 * len(names))
    grid = fig.add_gridspec(1 + len(names), 2, height_ratios=[3.4] + [3] * len(names), width_ratios=[1, 1])
    kinds, fixes = [k for k in KINDS if k != "good"], [k for k in reports[0]["gain"] if k != "all"]
    shares = [[100 * r["joints"][k] for k in kinds] for r in reports]
    good = ", ".join(f"{100 * r['joints']['good']:.0f} %" for r in reports)
    _bars(
        axes(fig.add_subplot(grid[0, 0]), f"Faulty labels, % of all (good: {good})", "x"),
        kinds,
        shares,
        names,
        "{:.1f}",
    )
    gains = [[r["gain"][k] for k in fixes] for r in reports]
    _bars(
        axes(fig.add_subplot(grid[0, 1]), "AP gained if one kind were put right", "x"), fixes, gains, names, "{:+.3f}"
    )
    for i, (name, report) in enumerate(zip(names, reports, strict=True)):
        _stacks(
            axes(fig.add_subplot(grid[1 + i, :]), f"{name}: every joint and person size", "y"), report, legend=i == 0
        )
    heads = ", ".join(f"{name} AP {r['ap']:.3f}" for name, r in zip(names, reports, strict=True))
    if len(names) > 1:
        handles, labels = fig.axes[0].get_legend_handles_labels()
        fig.legend(handles, labels, loc="upper right", ncols=2, frameon=False, fontsize=9)
    fig.suptitle(f"{heads} on {title}\n", x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    return png(fig)


def _bars(ax: Any, labels: Sequence[str], values: Sequence[Sequence[float]], names: Sequence[str], form: str) -> None:
    """Horizontal bars, the first label on top: one row of `values` a name, one number a label."""
    height = 0.8 / len(names)
    for i, (row, name) in enumerate(zip(values, names, strict=True)):
        y = np.arange(len(labels)) + (i - (len(names) - 1) / 2) * height
        ax.barh(y, row, height * 0.92, color=SERIES[i], label=name)
        for place, value in zip(y, row, strict=True):
            at = (max(value, 0), float(place))
            ax.annotate(form.format(value), at, (4, 0), textcoords="offset points", va="center", fontsize=8, color=INK)
    ax.set_yticks(range(len(labels)), labels)
    ax.invert_yaxis()
    ax.margins(x=0.12)


def _stacks(ax: Any, report: Mapping[str, Any], legend: bool) -> None:
    """A stacked bar of 100 % for every joint, a space, and one for every person size."""
    joints, sizes = report["per_joint"], report["per_size"]
    places = [*range(len(joints)), *(len(joints) + 1 + i for i in range(len(sizes)))]
    floor = np.zeros(len(places))
    for kind, colour in KINDS.items():
        share = np.array([100 * row[kind] for row in (*joints, *sizes)])
        ax.bar(places, share, 0.82, bottom=floor, color=colour, label=kind)
        floor += share
    labels = [row["joint"].replace("_", "\n") for row in joints] + [f"{r['size']}\n({r['people']})" for r in sizes]
    ax.set_xticks(places, labels, fontsize=7.5)
    ax.set(ylim=(0, 100), xlim=(-0.6, places[-1] + 0.6))
    ax.set_ylabel("% of the labels", color=INK, fontsize=9)
    if legend:
        ax.legend(frameon=False, fontsize=8.5, ncols=len(KINDS), loc="lower right", bbox_to_anchor=(1, 1.0))


def pareto(
    points: Sequence[tuple[float, float]],
    front: Sequence[tuple[float, float]],
    limit: float,
    cost: str,
    score: str,
) -> bytes:
    """All (cost, score) `points`, the steps of their `front`, the budget as an upright line; the winner is ringed."""
    fig = figure(7.4, 4.8)
    ax = axes(fig.subplots())
    ax.scatter(*zip(*points, strict=True), s=16, color=KINDS["good"], label=f"{len(points)} candidates", zorder=2)
    x, y = zip(*front, strict=True)
    ax.step(x, y, where="post", color=SERIES[0], linewidth=1.8, zorder=3)
    ax.scatter(x, y, s=26, color=SERIES[0], label="Pareto front", zorder=4)
    ax.scatter(x[-1:], y[-1:], s=150, facecolors="none", edgecolors=SERIES[1], linewidths=2.2, label="best", zorder=5)
    ax.axvline(limit, color=INK, linewidth=1, linestyle=(0, (4, 3)))
    ax.set_xlabel(cost, color=INK)
    ax.set_ylabel(score, color=INK)
    ax.legend(frameon=False, fontsize=9, loc="upper left")
    return png(fig)


def layer_noise(rows: Sequence[tuple[str, str, float, bool]], title: str) -> bytes:
    """Noise of each layer (node, kind, noise, kept in float) with that layer alone in int8, in the graph's order."""
    fig = figure(8.6, 4.4)
    ax = axes(fig.subplots(), f"{title}: error of the maps with one layer in int8", "y")
    noise = np.maximum([row[2] for row in rows], 1e-9)
    for kept, colour, label in ((False, SERIES[0], "int8"), (True, SERIES[1], "kept in float")):
        at = [i for i, row in enumerate(rows) if row[3] == kept]
        if at:
            ax.vlines(at, noise.min() / 2, noise[at], colors=colour, linewidth=1.4)
            ax.plot(at, noise[at], "o", color=colour, markersize=4.5, label=label)
    for i in np.argsort(-noise)[:5]:
        ax.annotate(rows[i][1], (i, noise[i]), xytext=(4, 4), textcoords="offset points", fontsize=8, color=INK)
    ax.set_yscale("log")
    ax.set_xlabel("convolution, in the order of the graph", fontsize=9, color=INK)
    ax.set_ylabel("error variance / variance of the maps", fontsize=9, color=INK)
    ax.legend(frameon=False, fontsize=9, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2)
    return png(fig)
