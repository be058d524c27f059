"""The list of models behind `edgepose models`."""

from __future__ import annotations

import sys
from typing import Any

from edgepose.weights import BUNDLED, DEFAULT, bundled


def models() -> int:
    """List the models: bundled ones, which are ready to use, and known architectures, which need weights."""
    from edgepose.card import Card
    from edgepose.models import input_hw, zoo

    rows, here = [], set()
    for name in bundled():
        card = Card.read(BUNDLED / name)
        size: Any = card.codec
        here.add((name, card.codec.skeleton.name))
        rows.append(
            {"name": name + (" (default)" if name == DEFAULT else ""), "skeleton": card.codec.skeleton.name}
            | {"input": input_hw(size.input_size), "params": card.params, "gmacs": card.gmacs}
            | {"gmacs_paper": card.gmacs_paper, "gops": card.gops, "scores": card.scores, "licence": card.licence}
            | {"bundled": True}
        )
    table = _table(
        "model", "joints", "input", "params", "GMACs", "GMACs, paper", "GOPs", "scores", "licence", "weights"
    )
    for row in [*rows, *(known for known in zoo() if (known["name"], known["skeleton"]) not in here)]:
        size = row["input"] if isinstance(row["input"], (list, tuple)) else [row["input"]] * 2
        figures = [f"{name} {value:.3g}" for name, value in row["scores"].items() if isinstance(value, float)][:2]
        params = "" if row["params"] is None else f"{row['params'] / 1e6:.2f} M"
        costs = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("gmacs", "gmacs_paper", "gops")]
        facts = [row["skeleton"], f"{size[0]}x{size[1]}", params, *costs, "\n".join(figures), row["licence"]]
        table.add_row(row["name"], *facts, "bundled" if row.get("bundled") else "none")
    _console().print(table)
    print("input: height x width in pixels; for whole pictures the shorter side, the longer follows the picture")
    print("GMACs: 1e9 multiply-adds at that input; paper: in the LitePose paper's counting, which gives more")
    print("GOPs: of binary networks, 1e9 real multiply-adds and 1/64 of the binary ones; their GMACs are the real ones")
    return 0


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 200, highlight=False)


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="right" if column in ("params", "GMACs", "GMACs, paper", "GOPs") else "left")
    return table
