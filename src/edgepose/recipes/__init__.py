"""Recipes: one file a paper or network. RECIPES maps the rest of the recipe's name to a `Recipe`, a value in Python."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from edgepose import folder
from edgepose.card import typed
from edgepose.data._augment import Augment
from edgepose.data._persons import PersonAugment
from edgepose.search.plan import Search

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Recipe:
    """Everything one training run depends on, but for the folder with the data."""

    # which network of models/, as file-name
    model: str
    # (data set, split) pairs that are learnt from
    photographs: Pairs
    # (data set, split) pairs that are only measured
    validation: Pairs
    # pairs whose people are joined to mosaics (bottom-up)
    singles: Pairs = ()
    # share of the photographs without people that are shown (bottom-up)
    empty: float = 0.3
    # optimiser steps; 0 if epochs says how long
    steps: int = 0
    # passes over the photographs (top-down: over their people); 0 if steps says how long
    epochs: float = 0.0
    # samples an optimiser step, over all processes
    batch: int = 16
    # forward passes that share them
    accumulate: int = 1
    # steps that each process takes alone before the weights are averaged; 1 averages every gradient (DDP)
    local_steps: int = 1
    # adamw, adam or muon
    optimiser: str = "adamw"
    # learning rate
    lr: float = 5e-4
    # linear, cosine, step or constant, after the warm-up
    schedule: str = "linear"
    # steps over which the learning rate rises
    warmup: int = 200
    # last share of the run over which it falls to 0 (linear)
    decay: float = 0.8
    # shares of the run at which it is divided by ten (step)
    milestones: tuple[float, ...] = ()
    # of kernels and matrices
    weight_decay: float = 0.02
    # factor on the learning rate from each layer to the one before it (ViT)
    layer_decay: float = 1.0
    # largest norm of the gradient, 0 is off
    clip: float = 1.0
    # (share of the run at which it begins, side of the input in pixels), bottom-up; empty is the model's own size
    resolutions: tuple[tuple[float, int], ...] = ()
    # between heatmaps: mse, ohkm or awing
    loss: str = "mse"
    # extra weight of pixels inside peaks (mse); 0 is the papers' loss
    focus: float = 0.0
    # weight of associative embedding (bottom-up)
    tag_weight: float = 1e-3
    # model folder whose maps are copied as well
    teacher: str = ""
    # weight of that copying
    kl_weight: float = 0.0
    # its temperature (top-down)
    kl_tau: float = 0.1
    augment: Augment = field(default_factory=Augment)
    person: PersonAugment = field(default_factory=PersonAugment)
    search: Search = field(default_factory=Search)
    # decay of the averaged weights, 0 is off
    ema: float = 0.999
    # batches over which BatchNorm statistics are measured anew at the end, 0 is off
    recalibrate: int = 0
    # 32-true, bf16-mixed or 16-mixed
    precision: str = "32-true"
    # BatchNorm over all GPUs together
    sync_bn: bool = False
    # torch.compile
    compile: bool = False
    # memory layout of pictures and kernels, the faster one on CPUs
    channels_last: bool = True
    # steps between two measurements on the validation photographs, 0 is only at the end
    measure: int = 0
    seed: int = 0
    # graph, attention, control or hierarchy: refine the network's features (RMPG); finer: arch.refine.place=1 ...
    refine: str = ""
    # fields of the model's Arch to change, and of its codec
    arch: dict[str, Any] = field(default_factory=dict)
    codec: dict[str, Any] = field(default_factory=dict)
    # what the card will say of the data, and of the licence
    data: str = ""
    licence: str = ""

    def __post_init__(self) -> None:
        for name in ("arch", "codec"):  # JSON gives lists
            fields = {k: tuple(v) if isinstance(v, list) else v for k, v in getattr(self, name).items()}
            object.__setattr__(self, name, fields)
        for name, good in (
            ("steps", self.steps >= 0),
            ("epochs", self.epochs >= 0),
            ("batch", self.batch > 0),
            ("accumulate", self.accumulate > 0 and self.batch % self.accumulate == 0),
            ("local_steps", self.local_steps > 0 and (self.local_steps == 1 or self.accumulate == 1)),
            ("lr", self.lr > 0),
            ("ema", 0 <= self.ema < 1),
            ("decay", 0 < self.decay <= 1),
            ("compile", not (self.compile and self.search.space)),  # every step has another network
            ("sync_bn", not (self.sync_bn and self.search.space)),
            ("recalibrate", self.recalibrate >= 0),
        ):
            if not good:
                raise ValueError(f"a recipe cannot have {name} = {getattr(self, name)!r} (batch {self.batch})")
        if (self.steps > 0) == (self.epochs > 0):
            raise ValueError(f"a recipe says steps or epochs, one of them: {self.steps} steps, {self.epochs} epochs")

    def write(self, path: Path) -> None:
        """Save as JSON, so that a run says what it was."""
        path.write_text(json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Recipe:
        """The recipe of an earlier run; `ValueError` names the file or the field that is wrong."""
        try:
            return typed(cls, json.loads(path.read_text()), "recipe.")
        except (OSError, json.JSONDecodeError) as error:
            raise ValueError(f"cannot read the recipe {path}: {error}") from error


def names() -> list[str]:
    """Every recipe, as "file-variant"."""
    return [f"{file}-{variant}" for file in folder.names(__name__) for variant in folder.entry(__name__, file).RECIPES]


def find(name: str) -> Recipe:
    """The recipe called `name`; `ValueError` lists the known ones."""
    if name not in names():
        raise ValueError(folder.unknown("recipe", name, names()))
    file, _, variant = name.partition("-")
    return folder.entry(__name__, file).RECIPES[variant]
