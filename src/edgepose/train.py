"""Training: one readable loop over Lightning Fabric."""

from __future__ import annotations

import contextlib
import copy
import math
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.utils.data import DataLoader

from edgepose import folder, losses, optim
from edgepose.codecs.bottomup import BottomUp
from edgepose.data import Record
from edgepose.data._loader import BottomUpSamples, TopDownSamples
from edgepose.recalibrate import statistics
from edgepose.recipes import Pairs, Recipe
from edgepose.search.supernet import Sampler, Supernet

Samples = BottomUpSamples | TopDownSamples
Loss = Callable[[list[Tensor], dict[str, Tensor], list[Tensor] | None], dict[str, Tensor]]


def records(pairs: Pairs, root: str | Path) -> list[Record]:
    """All records of (data set, split) pairs under `root`."""
    return [r for name, split in pairs for r in folder.entry("edgepose.data", name).read(root, split)]


def samples(plan: Recipe, codec: Any, root: str | Path, photographs: list[Record]) -> tuple[Recipe, Samples]:
    """What the network is shown of `photographs`, and the recipe with its number of steps.

    A supernet is not shown those that judge its subnets. `ValueError` if nobody is labelled.
    """
    if plan.search.space:
        photographs = parted(plan, photographs)[0]
    peopled = [r for r in photographs if len(r.truth)]
    if not peopled:
        raise ValueError(f"nobody is labelled in {', '.join(' '.join(pair) for pair in plan.photographs)} of {root}")
    if not isinstance(codec, BottomUp):
        people = [(r, row) for r in peopled for row in range(len(r.truth))]
        return _lasting(plan, len(people)), TopDownSamples(people, codec, plan.person, plan.augment, plan.seed)
    empty = [r for r in photographs if not len(r.truth)]
    shown = peopled + empty[: int(plan.empty * len(empty))]
    plan = _lasting(plan, len(shown))
    singles = [r for r in records(plan.singles, root) if len(r.truth)]
    sizes = plan.resolutions or ((0.0, codec.input_size),)
    starts = tuple((int(share * plan.steps) * plan.batch, size) for share, size in sizes)
    drawn = plan.search.space.get("size", ())
    return plan, BottomUpSamples(shown, singles, codec, plan.augment, starts, plan.seed, drawn, plan.batch)


def parted(plan: Recipe, photographs: list[Record]) -> tuple[list[Record], list[Record]]:
    """Photographs that a supernet learns from, and `search.hold` others, evenly among those with people, to judge it.

    `ValueError` if more than half of them would be held.
    """
    peopled, hold = [r for r in photographs if len(r.truth)], plan.search.hold
    if 2 * hold > len(peopled):
        raise ValueError(f"search.hold = {hold} is more than half of the {len(peopled)} labelled photographs")
    held = [peopled[i * len(peopled) // hold] for i in range(hold)]
    kept = {id(r) for r in held}
    return [r for r in photographs if id(r) not in kept], held


def _lasting(plan: Recipe, count: int) -> Recipe:
    return plan if plan.steps else replace(plan, steps=math.ceil(plan.epochs * count / plan.batch), epochs=0.0)


def objective(plan: Recipe, codec: Any) -> Loss:
    """The loss that the recipe asks for."""
    compare = losses.heatmap(plan.loss)
    if plan.focus and plan.loss == "mse":
        compare = partial(losses.heatmap_mse, focus=plan.focus)
    if isinstance(codec, BottomUp):
        return lambda maps, batch, teacher: losses.bottom_up(
            maps, batch, compare, plan.tag_weight, teacher, plan.kl_weight
        )

    def one_person(maps: list[Tensor], batch: dict[str, Tensor], teacher: list[Tensor] | None) -> dict[str, Tensor]:
        joints = len(codec.skeleton)
        wholes = [m for m in maps if m.shape[1] == joints]
        terms = losses.top_down(wholes, batch, compare, teacher, plan.kl_weight, plan.kl_tau)
        taught = [m for m in maps if m.shape[1] != joints]  # body parts inside a hierarchy of RMPGs
        parts = losses.body_parts(taught, batch, codec.skeleton.parts, plan.focus)
        return {**terms, **parts, "loss": sum(parts.values(), terms["loss"])}

    return one_person


def batches(
    plan: Recipe, shown: Samples, fabric: Fabric, first: int, last: int, workers: int
) -> Iterator[dict[str, Tensor]]:
    """Batches of the steps from `first` until before `last`; every process gets its share of the same global sequence
    of samples."""
    share = fabric.world_size * plan.accumulate
    if plan.batch % share:
        raise ValueError(f"batch {plan.batch} cannot be shared by {share} forward passes; make it a multiple")
    numbers = range(first * plan.batch + fabric.global_rank, last * plan.batch, fabric.world_size)
    loader = DataLoader(
        shown,  # type: ignore[arg-type]
        plan.batch // share,
        sampler=numbers,
        num_workers=workers,
        prefetch_factor=4 if workers else None,
        pin_memory=fabric.device.type == "cuda",
    )
    for batch in loader:
        yield {k: v.to(fabric.device, non_blocking=True) for k, v in batch.items()}


def fit(
    plan: Recipe,
    shown: Samples,
    out: Path,
    fabric: Fabric,
    net: nn.Module,
    workers: int = 1,
    every: int = 250,
    teacher: nn.Module | None = None,
    check: Callable[[nn.Module], dict[str, float]] | None = None,
    sample: Sampler | None = None,
) -> tuple[nn.Module, float]:
    """Train `net` and give its averaged weights, a network in eval mode, and the hours spent.

    out: run folder; `last.ckpt` (every `every` steps) and `metrics.jsonl` are kept there, and a run goes on from them.
    teacher: a network in eval mode whose maps the loss compares with. check: figures of a network on other photographs.
    sample: `net` is a supernet, and these subnets of it learn at each step.
    `ValueError` if the loss is no number, or if the disk is full; the last checkpoint stays.
    """
    from edgepose.report import Log

    out.mkdir(parents=True, exist_ok=True)
    layout = torch.channels_last if plan.channels_last else torch.contiguous_format
    net = net.to(memory_format=layout)  # type: ignore[call-overload]
    if plan.sync_bn and fabric.device.type == "cuda":
        net = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    optimiser = optim.make(net, plan.optimiser, plan.lr, plan.weight_decay, plan.layer_decay)
    ready = Supernet(net) if sample else torch.compile(net) if plan.compile else net
    model, optimiser = fabric.setup(ready, optimiser)  # type: ignore[arg-type]
    ema, loss, step, spent = copy.deepcopy(net), objective(plan, shown.codec), 0, 0.0
    teacher = teacher.to(fabric.device) if teacher else None
    if (out / "last.ckpt").exists():
        saved = torch.load(out / "last.ckpt", map_location=fabric.device, weights_only=True)
        net.load_state_dict(saved["net"])
        ema.load_state_dict(saved["ema"])
        optimiser.load_state_dict(saved["optimiser"])
        step, spent = saved["step"], saved["seconds"]
    alone = plan.local_steps > 1
    log, turn, begin = Log(out, plan, step, spent, fabric.is_global_zero), 0, time.monotonic()
    model.train()
    with log:
        for batch in batches(plan, shown, fabric, step, plan.steps, workers):
            turn += 1
            torch.manual_seed((plan.seed * plan.steps + step) * 4096 + fabric.global_rank)  # drop-path, also on resume
            last = turn % plan.accumulate == 0
            images = batch["image"].contiguous(memory_format=layout)
            with torch.no_grad():
                theirs = [m.float() for m in teacher(images)] if teacher else None
            drawn, shares = sample(step) if sample else [None], dict[str, Tensor]()
            for i, arch in enumerate(drawn):
                quiet = fabric.world_size > 1 and (alone or not last or i + 1 < len(drawn))
                with fabric.no_backward_sync(model) if quiet else contextlib.nullcontext():
                    maps = [m.float() for m in (model(images, arch) if arch else model(images))]
                    terms = loss(maps, batch, theirs)
                    fabric.backward(terms["loss"] / (plan.accumulate * len(drawn)))
                shares = {**{name: term.detach() for name, term in terms.items()}, **shares}
                shares["loss"] = torch.maximum(shares["loss"], terms["loss"].detach()) if i else shares["loss"]
                if i == 0 and plan.search.distil:
                    theirs = [m.detach() for m in maps]
            log.add(shares)
            if not last:
                continue
            lr = optim.rate(step, plan.steps, plan.lr, plan.schedule, plan.warmup, plan.decay, plan.milestones)
            for group in optimiser.param_groups:
                group["lr"] = lr * group["scale"]
            if not _finite(fabric, model, optimiser, plan, shares["loss"]):
                kept = f"the last good weights are in {out}/last.ckpt" if step >= every else "nothing was saved yet"
                raise ValueError(f"loss or gradient is not finite at step {step}; lower lr; {kept}")
            optimiser.step()
            optimiser.zero_grad()
            step += 1
            optim.average(ema, net, min(plan.ema, (1 + step) / (10 + step)))
            if alone and fabric.world_size > 1 and (step % plan.local_steps == 0 or step == plan.steps):
                _level(fabric, net, ema)
            seconds = spent + time.monotonic() - begin
            log.step(step, lr, seconds, images.shape[-1])
            if step % every == 0 or step == plan.steps:
                state = {"net": net.state_dict(), "ema": ema.state_dict(), "optimiser": optimiser.state_dict()}
                if fabric.is_global_zero:
                    keep(out / "last.ckpt", {**state, "step": step, "seconds": seconds})
            if check and plan.measure and step % plan.measure == 0 and step < plan.steps:
                if fabric.is_global_zero:
                    log.figures(step, check(copy.deepcopy(ema).eval()))
                fabric.barrier()
    if plan.recalibrate:
        more = batches(plan, shown, fabric, plan.steps, plan.steps + plan.recalibrate, 0)
        statistics(ema, (batch["image"].contiguous(memory_format=layout) for batch in more))
        if fabric.world_size > 1:
            _level(fabric, ema)
    return ema.eval().cpu(), (spent + time.monotonic() - begin) / 3600


def _finite(fabric: Fabric, model: Any, optimiser: Any, plan: Recipe, loss: Tensor) -> bool:
    """Clip the gradient; whether it and the loss are numbers. At half precision the scaler skips wild gradients."""
    scaled = plan.precision == "16-mixed"
    if plan.clip:
        try:
            fabric.clip_gradients(model, optimiser, max_norm=plan.clip, error_if_nonfinite=not scaled)
        except RuntimeError as error:
            if "non-finite" not in str(error):
                raise
            return False
    return bool(torch.isfinite(loss))


@torch.no_grad()
def _level(fabric: Fabric, *nets: nn.Module) -> None:
    """Give all processes the mean of their weights and statistics (local SGD; Lin et al., ICLR 2020)."""
    tensors = [v for net in nets for v in net.state_dict().values() if v.is_floating_point()]
    mean: Any = fabric.all_reduce(torch.cat([v.flatten() for v in tensors]), reduce_op="mean")
    for tensor, part in zip(tensors, mean.split([v.numel() for v in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


def keep(path: Path, state: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all; `ValueError` if it cannot be written, the one before it stays."""
    part = path.with_name(path.name + ".part")
    try:
        torch.save(state, part)
        os.replace(part, path)
    except (OSError, RuntimeError) as error:
        with contextlib.suppress(OSError):
            part.unlink(missing_ok=True)
        kept = "the checkpoint before it is whole" if path.exists() else "nothing was saved yet"
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise ValueError(f"cannot write {path} ({reason}); {kept}; make room and go on with --resume") from error
