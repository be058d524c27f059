"""Training: one readable loop over Lightning Fabric."""

from __future__ import annotations

import copy
import json
import os
import pickle
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader
from tyro.conf import FlagCreatePairsOff, Positional

from edgepose import evaluate, folder, losses, models, predictor, weights
from edgepose.card import Card
from edgepose.codecs.bottomup import BottomUp
from edgepose.data import Record
from edgepose.data._augment import Augment
from edgepose.data._loader import BottomUpSamples


@dataclass(frozen=True)
class Recipe:
    """Everything one training run depends on, but for the folder with the data.

    model: `file-name` of models/. photographs: (data set, split) pairs shown whole; singles: pairs joined to mosaics;
    validation: pairs that are only measured. empty: share of the photographs without people that are shown.
    steps, batch: optimiser steps and samples in each. lr: of AdamW, after `warmup` steps, held until the last `decay`
    share of the run, then linear to 0. resolutions: (share of the run at
    which it begins, input size in pixels). focus, tag_weight: see losses.bottom_up. ema: decay of the averaged weights.
    arch: fields of the model's Arch to change; codec: fields of the saved model's codec, which predicts.
    data, licence: what the card will say.
    """

    model: str
    photographs: tuple[tuple[str, str], ...]
    singles: tuple[tuple[str, str], ...]
    validation: tuple[tuple[str, str], ...]
    steps: int
    batch: int = 16
    lr: float = 5e-4
    warmup: int = 200
    empty: float = 0.3
    decay: float = 0.8
    weight_decay: float = 0.02
    clip: float = 1.0
    resolutions: tuple[tuple[float, int], ...] = ((0.0, 256),)
    augment: Augment = field(default_factory=Augment)
    focus: float = 6.0
    tag_weight: float = 1e-1
    ema: float = 0.999
    seed: int = 0
    arch: dict[str, Any] = field(default_factory=dict)
    codec: dict[str, Any] = field(default_factory=dict)
    data: str = ""
    licence: str = ""


def records(pairs: tuple[tuple[str, str], ...], root: str | Path) -> list[Record]:
    """All records of (data set, split) pairs under `root`."""
    return [r for name, split in pairs for r in folder.entry("edgepose.data", name).read(root, split)]


def rate(recipe: Recipe, step: int) -> float:
    """Learning rate at `step`: linear warm-up, flat, linear to zero."""
    left = (recipe.steps - step) / max(1.0, recipe.decay * recipe.steps)
    return recipe.lr * min(1.0, (step + 1) / max(1, recipe.warmup), max(0.0, left))


@torch.no_grad()
def average(ema: nn.Module, net: nn.Module, decay: float) -> None:
    """Move `ema` towards `net`: floating tensors (BatchNorm statistics too) by 1 - decay, counters wholly."""
    for mean, new in zip(ema.state_dict().values(), net.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(new.to(mean), 1 - decay)
        else:
            mean.copy_(new)


def batches(recipe: Recipe, root: str | Path, fabric: Fabric, first: int, workers: int) -> Iterator[dict[str, Any]]:
    """Batches from step `first` on; every rank gets its share of the same global sequence."""
    per_rank, left = divmod(recipe.batch, fabric.world_size)
    if left:
        raise ValueError(f"batch {recipe.batch} cannot be shared by {fabric.world_size} processes")
    starts = tuple((int(share * recipe.steps) * recipe.batch, size) for share, size in recipe.resolutions)
    photographs, singles = records(recipe.photographs, root), records(recipe.singles, root)
    empty = [r for r in photographs if not len(r.truth)]
    photographs = [r for r in photographs if len(r.truth)] + empty[: int(recipe.empty * len(empty))]
    singles = [r for r in singles if len(r.truth)]
    codec = BottomUp(photographs[0].truth.skeleton)
    samples = BottomUpSamples(photographs, singles, codec, recipe.augment, starts, recipe.seed)
    numbers = range(first * recipe.batch + fabric.global_rank, recipe.steps * recipe.batch, fabric.world_size)
    loader = DataLoader(samples, per_rank, sampler=numbers, num_workers=workers, prefetch_factor=4 if workers else None)  # type: ignore[arg-type]
    for batch in loader:
        yield {k: v.to(fabric.device, non_blocking=True) for k, v in batch.items()}


def fit(
    recipe: Recipe, root: str | Path, out: Path, fabric: Fabric, net: nn.Module, workers: int = 1, every: int = 250
) -> tuple[nn.Module, float]:
    """Train `net` and give its averaged weights, a network in eval mode, and the hours spent.

    out: run folder; `last.ckpt` (every `every` steps) and `metrics.jsonl` are kept there, and a run goes on from them.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    out.mkdir(parents=True, exist_ok=True)
    net = net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    ema = copy.deepcopy(net).to(fabric.device)
    optimiser = torch.optim.AdamW(_groups(net, recipe.weight_decay), lr=recipe.lr)
    model, optimiser = fabric.setup(net, optimiser)
    step, spent = 0, 0.0
    if (out / "last.ckpt").exists():
        saved = torch.load(out / "last.ckpt", map_location=fabric.device, weights_only=True)
        net.load_state_dict(saved["net"])
        ema.load_state_dict(saved["ema"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["seconds"]
        _forget(out / "metrics.jsonl", step)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    begin, sums = time.monotonic(), dict[str, torch.Tensor]()
    model.train()
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(recipe.model, total=recipe.steps, completed=step)
        for batch in batches(recipe, root, fabric, step, workers):
            for group in optimiser.param_groups:
                group["lr"] = rate(recipe, step)
            maps = model(batch["image"].contiguous(memory_format=torch.channels_last))
            terms = losses.bottom_up(maps, batch, recipe.focus, recipe.tag_weight)
            optimiser.zero_grad()
            fabric.backward(terms["loss"])
            try:
                fabric.clip_gradients(model, optimiser, max_norm=recipe.clip)
            except RuntimeError as error:
                kept = f"the last good weights are in {out}/last.ckpt" if step >= every else "nothing was saved yet"
                raise ValueError(f"loss or gradient is not finite at step {step}; lower lr; {kept}") from error
            optimiser.step()
            step += 1
            average(ema, net, min(recipe.ema, (1 + step) / (10 + step)))
            sums = {k: sums.get(k, torch.zeros(())) + v.detach() for k, v in terms.items()}
            progress.advance(task)
            if step % 50 == 0:
                row = {k: round(float(v) / 50, 6) for k, v in sums.items()}
                seconds = spent + time.monotonic() - begin
                log = {"step": step, "seconds": round(seconds, 1), "lr": rate(recipe, step - 1), **row}
                progress.update(task, description=f"{recipe.model} loss {row['loss']:.4f}")
                sums = {}
                if fabric.is_global_zero:
                    with open(out / "metrics.jsonl", "a") as file:
                        file.write(json.dumps({**log, "size": batch["image"].shape[-1]}) + "\n")
            if step % every == 0 or step == recipe.steps:
                state = {"net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict()}
                state |= {"step": step, "seconds": spent + time.monotonic() - begin}
                if fabric.is_global_zero:
                    torch.save(state, out / "last.ckpt.part")
                    os.replace(out / "last.ckpt.part", out / "last.ckpt")
    return ema.eval().cpu(), (spent + time.monotonic() - begin) / 3600


def _forget(metrics: Path, step: int) -> None:
    """Drop the lines that were logged after the checkpoint at `step`."""
    if metrics.exists():
        lines = [line for line in metrics.read_text().splitlines() if json.loads(line)["step"] <= step]
        metrics.with_suffix(".part").write_text("".join(line + "\n" for line in lines))
        os.replace(metrics.with_suffix(".part"), metrics)


def _groups(net: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Weight decay for matrices and kernels, none for BatchNorm and biases."""
    plain = [p for p in net.parameters() if p.ndim < 2]
    return [{"params": [p for p in net.parameters() if p.ndim >= 2], "weight_decay": decay}] + [
        {"params": plain, "weight_decay": 0.0}
    ]


def find(name: str) -> Recipe:
    """The recipe `file-variant` of recipes/; `ValueError` lists the known ones."""
    known = {f"{f}-{v}": r for f in folder.names("edgepose.recipes") for v, r in _recipes(f).items()}
    if name not in known:
        raise ValueError(folder.unknown("recipe", name, sorted(known)))
    return known[name]


def _recipes(file: str) -> dict[str, Recipe]:
    return folder.entry("edgepose.recipes", file).RECIPES


def train(
    recipe: Annotated[str, Positional],
    data: Path,
    out: Path,
    init: Path | None = None,
    steps: int | None = None,
    device: str = "auto",
    devices: int = 1,
    threads: int | None = None,
    workers: int = 1,
    resume: FlagCreatePairsOff[bool] = False,
) -> int:
    """Train a network by a recipe; the run folder ends with a model folder in `model/`.

    Args:
        recipe: name of a recipe, for example litepose-xs.
        data: folder with the data sets that the recipe names.
        out: run folder; keeps last.ckpt, metrics.jsonl and model/.
        init: weights to start from: model.safetensors of a model folder, last.ckpt of a run, or an ImageNet .pth.
        steps: optimiser steps, instead of the recipe's.
        device: cpu, cuda or auto.
        devices: processes, one per device.
        threads: CPU threads of each process.
        workers: processes that prepare pictures.
        resume: go on from last.ckpt in `out`.
    """
    plan = find(recipe)
    plan = replace(plan, steps=steps) if steps is not None else plan
    if (out / "last.ckpt").exists() and not resume:
        raise ValueError(f"{out} holds an earlier run; go on with --resume or name another folder")
    if threads:
        torch.set_num_threads(threads)
    fabric = Fabric(accelerator=device, devices=devices)
    fabric.launch()
    torch.manual_seed(plan.seed)
    file, _, variant = plan.model.partition("-")
    module = folder.entry("edgepose.models", file)
    net = module.build(replace(module.ARCHS[variant][0], **plan.arch))
    if init is not None:
        start(net, module, init)
    averaged, hours = fit(plan, data, out, fabric, net, workers)
    if fabric.is_global_zero:
        command = f"edgepose train {recipe} --data DATA --out RUN --steps {plan.steps}" + " --init FILE" * bool(init)
        export(plan, averaged, data, out / "model", command, hours)
    return 0


def start(net: Any, module: Any, init: Path) -> None:
    """Fill `net` from model.safetensors, last.ckpt or an ImageNet checkpoint of its trunk; `ValueError` if unfit."""
    if not init.is_file():
        raise ValueError(f"no such file: {init}")
    try:
        if init.suffix == ".ckpt":
            net.load_state_dict(torch.load(init, map_location="cpu", weights_only=True)["ema"])
        elif init.suffix == ".safetensors":
            from safetensors.torch import load_file

            net.load_state_dict(load_file(init))
        else:
            module.load_imagenet(net, str(init))
    except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{init} does not fit this network: {str(error).splitlines()[0]}") from error


def export(plan: Recipe, net: Any, data: Path, out: Path, command: str, hours: float) -> None:
    """Save `net` for every engine in `out`, with a card that says how it was made and what it scores on validation."""
    seen = plan.steps * plan.batch
    notes = f"{seen:,} training samples, averaged weights (EMA {plan.ema})"
    card = models.card(plan.model)
    codec: Any = card.codec
    card = replace(card, arch=asdict(net.arch), codec=replace(codec, **plan.codec), data=plan.data)
    card = replace(card, licence=plan.licence, command=command, notes=notes)
    weights.save(out, replace(card, hours=f"{hours:.2f}"), net)
    scores = evaluate.evaluate(predictor.load(out), records(plan.validation, data))
    names = ", ".join(f"{name} {split}" for name, split in plan.validation)
    found: dict[str, Any] = {k: round(v, 4) for k, v in scores.items()}
    replace(Card.read(out), scores={"on": names, **found}).write(out)
