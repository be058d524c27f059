"""Weights: where models are found (inside the package, or a folder) and how they are saved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepose.card import Card
from edgepose.folder import entry, unknown
from edgepose.models import zoo

BUNDLED = Path(__file__).parent / "bundled"
DEFAULT = "efficientlite-0-person"
DETECTOR = "efficientlite-0"  # finds the people for networks that look at one person at a time


def bundled() -> list[str]:
    """Names of the models that ship with the package."""
    return sorted(p.parent.name for p in BUNDLED.glob("*/card.json"))


def find(model: str | Path) -> Path:
    """The folder of a bundled model by name, or `model` itself if it is a folder.

    `ValueError` says what else could have been meant.
    """
    if str(model) in bundled():
        return BUNDLED / str(model)
    path = Path(model)
    if path.is_dir():
        return path
    if path.exists():
        raise ValueError(f"{model} is a file; name the folder that holds it and its card.json")
    known = {str(facts["name"]) for facts in zoo()}
    if str(model) in known:
        raise ValueError(
            f"the architecture {model!r} is known, but no weights are bundled: "
            f"train it or import a checkpoint (`edgepose import`). Bundled: {', '.join(bundled()) or 'none'}"
        )
    raise ValueError(unknown("model or model folder", str(model), sorted({*bundled(), *known})))


def save(
    folder: str | Path, card: Card, network: Any, runtimes: Sequence[str] = ("pytorch", "onnx"), half: bool = False
) -> Card:
    """Write a model folder: the weights of a torch `network` for each runtime, then `card.json`.

    `half` stores weights as float16. Returns the card as written, with its `weights` filled in.
    """
    engines = {name: entry("edgepose.runtimes", name) for name in runtimes}
    Path(folder).mkdir(parents=True, exist_ok=True)
    card = replace(card, weights={name: f"model.{engine.SUFFIX}" for name, engine in engines.items()})
    for name, engine in engines.items():
        engine.write(card, network, Path(folder) / card.weights[name], half)
    card.write(folder)
    return card
