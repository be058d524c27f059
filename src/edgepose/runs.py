"""A training run from the command line: recipe and overrides in, run folder and model folder out."""

from __future__ import annotations

import copy
import json
import os
import pickle
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
from lightning_fabric import Fabric
from tyro.conf import FlagCreatePairsOff, Positional, arg

from edgepose import evaluate, folder, models, predictor, recalibrate, recipes, report, train, weights
from edgepose.card import Card
from edgepose.codecs.topdown import TopDown
from edgepose.models._binary import is_binary
from edgepose.models._operations import operations
from edgepose.models.rmpg import named
from edgepose.poses import Poses
from edgepose.recipes import Recipe
from edgepose.runtimes import cpus
from edgepose.runtimes.pytorch import runner
from edgepose.search import score, supernet
from edgepose.search.space import Space
from edgepose.skeleton import Skeleton

Plan = Annotated[Recipe, arg(name="")]  # its fields are flags without a prefix
ASSIGNMENT = re.compile(r"[A-Za-z_][\w.]*=")


def command(args: Sequence[str], verb: Callable[..., int] | None = None) -> tuple[Callable[..., int], list[str]]:
    """`verb` (`run`, say) with the defaults of the recipe that `args` names (of the run itself with --resume), and
    `args` with `key=value` turned into flags."""
    words, plan = list(args), recipes.find(recipes.names()[0])
    if not {"-h", "--help"} & set(words) or set(words) & set(recipes.names()):
        name = next((word for word in words[1:] if not word.startswith("-") and not ASSIGNMENT.match(word)), "")
        plan = recipes.find(next((word for word in words if word in recipes.names()), name))
    out = next((b for a, b in pairwise(words) if a == "--out"), None)
    if "--resume" in words and out and (Path(out) / "recipe.json").exists():
        plan = Recipe.read(Path(out) / "recipe.json")
    flags: list[str] = []
    for word in words:
        if not ASSIGNMENT.match(word):
            flags.append(word)
            continue
        key, value = word.split("=", 1)
        part, _, rest = key.partition(".")
        if key.startswith("search.space."):
            own, values = key.removeprefix("search.space."), _value(value)
            values = values if isinstance(values, list) else [int(v) for v in value.split(",")]
            plan = replace(plan, search=replace(plan.search, space={**plan.search.space, own: values}))
        elif part in ("arch", "codec") and rest:
            change: Any = _value(value)
            for name in reversed(rest.split(".")):
                change = {name: change}
            plan = replace(plan, **{part: merged(getattr(plan, part), change)})
        else:
            several = isinstance(getattr(getattr(plan, part, None) if rest else plan, rest or part, None), tuple)
            flags += [f"--{key}", *(value.replace(",", " ").split() if several else [value])]
    if "--steps" in flags:
        plan = replace(plan, steps=plan.steps or 1, epochs=0.0)
    elif "--epochs" in flags:
        plan = replace(plan, steps=0, epochs=plan.epochs or 1.0)
    return partial(verb or run, plan=plan), flags


def merged(fields: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`fields` with `changes`; a change inside an object leaves the object's other fields alone."""
    inner = {k: merged(fields.get(k) or {}, v) if isinstance(v, dict) else v for k, v in changes.items()}
    return {**fields, **inner}


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def run(
    recipe: Annotated[Positional[str], arg(metavar="RECIPE")],
    root: Path,
    out: Path,
    plan: Plan,
    init: Path | None = None,
    device: str = "auto",
    devices: int = 1,
    nodes: int = 1,
    threads: int | None = None,
    workers: int | None = None,
    save_every: int = 250,
    resume: FlagCreatePairsOff[bool] = False,
) -> int:
    """Train a network by a recipe; the run folder ends with a model folder in `model/`.

    Every field of the recipe is a flag as well, and may also be written key=value (arch.NAME=VALUE and
    codec.NAME=VALUE reach into the network and its codec).

    Args:
        recipe: name of a recipe, for example litepose-xs.
        root: folder with the data sets that the recipe names.
        out: run folder; keeps recipe.json, last.ckpt, metrics.jsonl, curves.png, predictions.jpg and model/.
        init: weights to start from: model.safetensors of a model folder, last.ckpt of a run, or an ImageNet .pth; of a
            model folder itself, the sizes of its network and of its input are taken too.
        device: cpu, cuda or auto.
        devices: processes on this machine, one per device.
        nodes: machines; start the same command on each by torchrun or SLURM.
        threads: CPU threads of each process.
        workers: processes that prepare pictures, for each process that trains; by default what the CPUs allow.
        save_every: steps between checkpoints.
        resume: go on from last.ckpt in `out`.
    """
    if (out / "last.ckpt").exists() and not resume:
        raise ValueError(f"{out} holds an earlier run; go on with --resume or name another folder")
    if resume and not (out / "last.ckpt").exists():
        raise ValueError(f"{out} holds no last.ckpt to go on from; leave --resume out")
    if threads:
        torch.set_num_threads(threads)
    if "LOCAL_WORLD_SIZE" in os.environ:  # torchrun has started the processes
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    module = folder.entry("edgepose.models", plan.model.partition("-")[0])
    if init is not None and init.is_dir():
        plan, init = inherited(plan, init)
    many: dict[str, Any] = {"strategy": "ddp"} if devices * nodes > 1 else {}
    fabric = Fabric(accelerator=device, devices=devices, num_nodes=nodes, precision=plan.precision, **many)  # type: ignore
    fabric.launch()
    torch.manual_seed(plan.seed)
    photographs = train.records(plan.photographs, root)
    if not photographs:
        raise ValueError(f"no photographs in {', '.join(' '.join(pair) for pair in plan.photographs)} of {root}")
    card = models.card(plan.model, photographs[0].truth.skeleton)
    codec: Any = replace(card.codec, **plan.codec)  # type: ignore[type-var]
    card = replace(card, arch=changed(card.arch, plan, codec.skeleton), codec=codec)
    net = models.build(card)
    card = replace(sized(card, net), arch=asdict(net.arch), data=plan.data, licence=plan.licence)
    if init is not None:
        start(net, module, init)
    if init is not None and plan.search.space:
        supernet.sort_channels(net)
    plan, shown = train.samples(plan, codec, root, photographs)
    held = train.records(plan.validation, root)
    teacher = _teacher(plan, codec)
    if fabric.is_global_zero:
        out.mkdir(parents=True, exist_ok=True)
        plan.write(out / "recipe.json")
    sample = None
    if plan.search.space:
        space = Space.of(net.arch, codec.input_size, plan.search.space)
        sample = supernet.Sampler(space, plan.search, plan.seed)
    free = max(1, min(8, cpus() // max(1, devices) - 1))

    def settled(averaged: Any) -> Any:
        """With BatchNorm statistics of its own: those of a supernet are of all subnets together."""
        if not sample:
            return averaged
        device = next(averaged.parameters()).device
        batches = score.pictures(plan, shown, codec.input_size)  # type: ignore[arg-type]
        recalibrate.statistics(averaged, (images.to(device) for images in batches))
        return averaged

    def check(averaged: Any) -> dict[str, float]:
        averaged = settled(averaged)
        return figures(plan, predictor.Predictor(card, codec, runner(averaged, fabric.device)), held)

    averaged, hours = train.fit(
        plan, shown, out, fabric, net, free if workers is None else workers, save_every, teacher, check, sample
    )
    if fabric.is_global_zero:
        extra = f" --refine {plan.refine}" * bool(plan.refine)
        extra += " --init FILE" * bool(init) + f" --devices {devices}" * (devices > 1)
        line = f"edgepose train {recipe} --root DATA --out RUN --steps {plan.steps}{extra}"
        finish(plan, card, settled(averaged), held, out, line, hours)
    if fabric.world_size > 1:
        fabric.barrier()
        torch.distributed.destroy_process_group()
    return 0


def changed(arch: dict[str, Any], plan: Recipe, skeleton: Skeleton) -> dict[str, Any]:
    """The fields of an arch as the recipe changes them; `ValueError` for an unknown refinement."""
    refine = {"refine": asdict(named(plan.refine, skeleton))} if plan.refine else {}
    return merged({**arch, **refine}, plan.arch)


def figures(plan: Recipe, ready: predictor.Predictor, held: list[Any]) -> dict[str, float]:
    """The figures of the validation set; one person at a time is given the labelled boxes."""
    score = folder.entry("edgepose.data", plan.validation[0][0]).score
    return score(held, evaluate.detections(ready, held, boxes=isinstance(ready.codec, TopDown)))


def sized(card: Card, net: Any) -> Card:
    """The card with what `net` costs."""
    codec: Any = card.codec
    found = operations(net, models.input_hw(codec.input_size))
    told = {"params": found.params, "gmacs": found.gmacs, "gmacs_paper": found.gmacs_paper, "gops": found.gops}
    return replace(card, **told)


def inherited(plan: Recipe, init: Path) -> tuple[Recipe, Path]:
    """The recipe with the sizes of the model folder `init` and of its input, and its weights; `ValueError` if unfit."""
    card = Card.read(init)
    if card.family != plan.model.partition("-")[0] or "pytorch" not in card.weights:
        raise ValueError(f"{init} is no start for {plan.model}: it holds {card.model} for {', '.join(card.weights)}")
    codec: Any = card.codec
    sizes = {name: value for name, value in card.arch.items() if name != "joints"}  # the data says which joints
    plan = replace(plan, arch=sizes, codec={**plan.codec, "input_size": codec.input_size}, resolutions=())
    return plan, init / card.weights["pytorch"]


def _teacher(plan: Recipe, codec: Any) -> Any:
    """The network in eval mode whose maps are copied, or None; `ValueError` if the recipe and it do not fit."""
    if not plan.teacher:
        if plan.kl_weight and not plan.search.distil:
            raise ValueError(f"kl_weight = {plan.kl_weight:g}, but no teacher: name its model folder, teacher=FOLDER")
        return None
    if not plan.kl_weight:
        raise ValueError("a teacher without weight teaches nothing: give kl_weight, for example 0.05")
    theirs: Any = Card.read(plan.teacher).codec
    for name in ("skeleton", "input_size", "stride") if isinstance(codec, TopDown) else ("skeleton", "strides"):
        ours, other = getattr(codec, name), getattr(theirs, name, None)
        if ours != other:
            told = (ours.name, getattr(other, "name", other)) if name == "skeleton" else (ours, other)
            raise ValueError(f"the teacher {plan.teacher} has {name} {told[1]}, this network {told[0]}")
    return recalibrate.load(plan.teacher)


def start(net: Any, module: Any, init: Path) -> None:
    """Fill `net` from model.safetensors, last.ckpt or an ImageNet checkpoint of its trunk; `ValueError` if unfit."""
    if not init.is_file():
        raise ValueError(f"no such file: {init}")
    try:
        if init.suffix == ".ckpt":
            _fill(net, module, torch.load(init, map_location="cpu", weights_only=True)["ema"], init)
        elif init.suffix == ".safetensors":
            from safetensors.torch import load_file

            _fill(net, module, load_file(init), init)
        elif hasattr(module, "load_imagenet"):
            module.load_imagenet(net, str(init))
        else:
            raise ValueError(f"{init}: this network has no ImageNet layout; start from .ckpt or .safetensors")
    except (RuntimeError, KeyError, pickle.UnpicklingError) as error:
        raise ValueError(f"{init} does not fit this network: {str(error).splitlines()[0]}") from error


def _fill(net: Any, module: Any, state: dict[str, Any], init: Path) -> None:
    """All tensors; or, where the network's file names a TRUNK that is whole in `state`, those of the trunk alone; or,
    where it can `adopt` a network of real weights, what that can give to a binary one.

    Weights from before the network was refined (RMPG) leave the refinement as it begins: the identity.
    """
    own, host = net.state_dict(), getattr(module, "HOST", "")
    if set(state) != set(own) and is_binary(net):
        module.adopt(net, state, str(init))
        return
    if not any(k.startswith(host) for k in state):
        state = {host + k: v for k, v in state.items()}
    if not any("refine" in k.split(".") for k in state):
        state = {**state, **{k: v for k, v in own.items() if "refine" in k.split(".")}}
    trunk = {k for k in own if k.startswith(getattr(module, "TRUNK", ("?",)))}
    whole = set(state) == set(own) and all(state[k].shape == own[k].shape for k in own)
    if trunk and not whole and all(k in state and state[k].shape == own[k].shape for k in trunk):
        state = {**own, **{k: state[k] for k in trunk}}
    net.load_state_dict(state)


def finish(plan: Recipe, card: Card, net: Any, held: list[Any], out: Path, command: str, hours: float) -> None:
    """Save `net` in `out/model` with a card that says how it was made and what it scores; draw curves and a sheet."""
    notes = f"{plan.steps * plan.batch:,} training samples, averaged weights (EMA {plan.ema})"
    card = replace(card, command=command, notes=notes, hours=f"{hours:.2f}")
    weights.save(out / "model", card, copy.deepcopy(net))
    ready = predictor.load(out / "model")
    if held:
        names = ", ".join(f"{name} {split}" for name, split in plan.validation)
        names += ", labelled boxes" * isinstance(ready.codec, TopDown)
        found: dict[str, Any] = {k: round(v, 4) for k, v in figures(plan, ready, held).items()}
        replace(Card.read(out / "model"), scores={"on": names, **found}).write(out / "model")

        def look(record: Any) -> Poses:
            boxes = record.truth.boxes if isinstance(ready.codec, TopDown) else None
            return ready(record.read(), boxes)

        report.sheet(look, [r for r in held if len(r.truth)], out / "predictions.jpg")
    report.curves(out / "metrics.jsonl", out / "curves.png")
