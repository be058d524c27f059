"""What `edgepose bench` shows: a table on the terminal, and a chart of accuracy or cost against latency."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any

from edgepose.candidate import STEPS
from edgepose.plots import INK, axes, figure, png

COLOURS = ("#3b6fb6", "#e08a2e", "#4f9a5b", "#c14f4a", "#7d5390", "#2b2f36", "#8a6d3b", "#5aa8b5")


def printed(facts: Mapping[str, Any]) -> None:
    """The table on stdout, what is in its figures, and on what they were measured."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    rows = facts["candidates"]
    batches = sorted({int(n) for row in rows for n in row.get("pictures per second", {})})
    cost = ("params", "GMACs", "paper", "a picture", "file", "memory", "first", "AP")
    spent = ("p50", "p90", "p99", "read", "encode", "network", "poses", *(f"/s, {n}" for n in batches))
    for columns, cells in ((cost, _cost), (spent, lambda row: _spent(row, batches))):
        table = Table(box=box.SIMPLE, pad_edge=False)
        for name in ("model", "engine", "threads", *columns):
            table.add_column(name, justify="left" if name in ("model", "engine") else "right", no_wrap=True)
        for row in rows:
            name = row.get("peer") or row["model"]
            short = name if len(name) <= 30 else f"...{name[-27:]}"
            table.add_row(short, row.get("runtime", "peer"), _number(row.get("threads"), 0), *cells(row))
        Console(width=None if sys.stdout.isatty() else 160, highlight=False).print(table)
    print("GMACs: on the card, for one look of the network; paper: in the LitePose paper's counting; a picture: what a")
    print(
        "picture really took; memory: most held, one picture at a time; first: seconds from the start of the process to"
    )
    print(
        "the first answer. p50, p90, p99: milliseconds from file to poses; read, encode, network, poses: medians of the"
    )
    print("steps; /s: pictures a second with many at once (after the comma: how many share a call of the network)")
    for line in notes(facts):
        print(line)
    here = facts["machine"]
    print(f"{here['processor']}, {here['cpus']} CPUs, {here['system']}; {len(facts['pictures'])} photographs")
    if facts["load before"] is not None and facts["load before"] > 0.3 * here["cpus"]:
        print(f"other programs were running (load {facts['load before']:.1f} before the start): compare, do not quote")


def _cost(row: Mapping[str, Any]) -> list[str]:
    cells = [_number(row.get("params"), 2, 1e6, " M"), _number(row.get("gmacs"), 2), _number(row.get("gmacs_paper"), 2)]
    cells += [_number(row.get("gmacs per picture"), 2), _number(row.get("file_mb"), 1, 1, " MB")]
    cells += [_number(row["peak_mb"], 0, 1, " MB"), _number(row["first_s"], 2)]
    return [*cells, _number(row.get("scores", {}).get("AP"), 3)]


def _spent(row: Mapping[str, Any], batches: Sequence[int]) -> list[str]:
    steps, speed = row.get("steps_ms", {}), row.get("pictures per second", {})
    cells = [_number(row["ms"][mark], 1) for mark in ("p50", "p90", "p99")]
    cells += [_number(steps.get(step), 1) for step in STEPS]
    return [*cells, *(_number(speed.get(str(n)), 1) for n in batches)]


def _number(value: float | None, digits: int, unit: float = 1.0, after: str = "") -> str:
    return "" if value is None else f"{value / unit:.{digits}f}{after}"


def notes(facts: Mapping[str, Any]) -> list[str]:
    """What is in the figures of models that find people first, and which models could not take the input asked for."""
    lines, seen = [], set()
    for row in facts["candidates"]:
        if "peer" in row or row["model"] in seen or not row["one person at a time"]:
            continue
        seen.add(row["model"])
        share = row["steps_ms"].get("find people", 0.0)
        fixed = f"; its input stays {row['input'][1]}x{row['input'][0]}" if facts["input"] else ""
        lines.append(
            f"{row['model']} looks at one person at a time: its figures hold finding the people ({share:.0f} ms with a "
            f"model of whole pictures) and two looks at them, {row['network calls']:.1f} network calls a picture{fixed}"
        )
    return lines


def charts(facts: Mapping[str, Any]) -> bytes:
    """Accuracy (AP on the cards, where every model has it; else GMACs of a picture) against latency, as a PNG file."""
    rows = [row for row in facts["candidates"] if "peer" not in row]
    peers = [row for row in facts["candidates"] if "peer" in row]
    as_scored = not (facts["plain"] or facts["no_flip"] or facts["input"])  # else the card's AP is of something slower
    scored = as_scored and bool(rows) and all("AP" in row["scores"] for row in rows)
    value = (lambda row: row["scores"]["AP"]) if scored else (lambda row: row["gmacs per picture"])
    fig = figure(8.0, 4.8)
    ax = axes(fig.subplots(), "What a picture takes, file to poses")
    engines = sorted({row["runtime"] for row in rows})
    for engine in engines:
        some = [row for row in rows if row["runtime"] == engine]
        colour = COLOURS[engines.index(engine) % len(COLOURS)]
        for row in some:
            p50, p90 = row["ms"]["p50"], row["ms"]["p90"]
            ax.plot([p50, p90], [value(row)] * 2, color=colour, alpha=0.35, linewidth=3, solid_capstyle="round")
        spots = [(row["ms"]["p50"], value(row)) for row in some]
        ax.scatter(
            *zip(*spots, strict=True), s=[36 * row["threads"] for row in some], color=colour, label=engine, zorder=3
        )
    for name in dict.fromkeys(row["model"] for row in rows):
        some = [row for row in rows if row["model"] == name]
        slowest = max(some, key=lambda row: row["ms"]["p90"])
        spot = (slowest["ms"]["p90"], value(slowest))
        ax.annotate(
            name.rsplit("/", 1)[-1], spot, (7, 0), textcoords="offset points", va="center", fontsize=8, color=INK
        )
    for row in peers:
        ax.axvline(row["ms"]["p50"], color=INK, linestyle=":", linewidth=1)
        ax.annotate(
            row["peer"][-30:], (row["ms"]["p50"], 0.98), (3, 0), xycoords=ax.get_xaxis_transform(), rotation=90,
            textcoords="offset points", va="top", fontsize=7, color=INK,
        )  # fmt: skip
    ax.set_xlim(0, 1.3 * max(row["ms"]["p90"] for row in facts["candidates"]))
    ax.set_ylim(0, 1.2 * max([value(row) for row in rows] or [1]))
    ax.set_xlabel("milliseconds (dot: median, line: to the 90th percentile; larger dots: more threads)", fontsize=9)
    ax.set_ylabel("AP on the card" if scored else "GMACs of a picture", fontsize=9)
    if engines:
        ax.legend(frameon=False, fontsize=8.5, loc="lower right", bbox_to_anchor=(1, 1.0), ncols=len(engines))
    return png(fig)
