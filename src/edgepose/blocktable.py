"""The latency of every block that LitePose networks are made of, each timed alone: what an architecture search adds up.

A table is JSON: the machine, the engine, its threads, `blocks` (fields of `Block` and "ms"), `call_ms` (what a call of
the engine costs with nothing to do), and `networks`: whole networks, timed in the same run, beside the sum of theirs.
"""

from __future__ import annotations

import io
import json
import logging
import random
import statistics
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from edgepose.results import write_whole
from edgepose.sources import photographs, read_image
from edgepose.terminal import progress

if TYPE_CHECKING:
    from edgepose.card import Card
    from edgepose.models.litepose import Arch

FORMAT = 1
WHOLES = 10  # candidates of a search space that are timed as a whole too
LEAST = 0.004  # seconds that a block is run for in each round, at least
Call = Callable[[Sequence[NDArray[np.float32]]], Any]


@dataclass(frozen=True)
class Block:
    """A block by its sizes. kind: "stem" (image to stride 2), "inverted" residual, "deconv" (of the fusion head, with
    its norm), "head" (both predictions of an output). channels: of its one or two inputs. out: channels. kernel,
    stride: of the depthwise or transposed convolution. expansion: of an inverted residual, else 0. height, width: of
    its inputs."""

    kind: str
    channels: tuple[int, ...]
    out: int
    kernel: int
    expansion: int
    stride: int
    height: int
    width: int


def blocks(arch: Arch, size: tuple[int, int]) -> list[Block]:
    """The blocks of a LitePose for an input of `size` (height, width), multiples of 16, in the order they run."""
    (h, w), raw = (side // 2 for side in size), []
    out, a = [Block("stem", (3,), arch.stem, 3, 0, 2, *size)], arch.stem
    raw.append((a, h, w))
    for b, count, stride, kernel in zip(arch.channels, arch.blocks, arch.strides, arch.kernels, strict=True):
        for i in range(count):
            step = stride if i == 0 else 1
            out.append(Block("inverted", (a,), b, kernel, arch.expansion, step, h, w))
            a, h, w = b, -(-h // step), -(-w // step)
        raw.append((a, h, w))
    raw = raw[3::-1]  # at strides 16, 8, 4, 2
    for i, (width, kernel) in enumerate(zip(arch.deconv_channels, arch.deconv_kernels, strict=True)):
        both = (a, raw[i][0]) if arch.fusion else (a,)
        out.append(Block("deconv", both, width, kernel, 0, 2, h, w))
        a, h, w = width, 2 * h, 2 * w
        if i:
            both = (a, raw[i + 1][0]) if arch.fusion else (a,)
            out.append(Block("head", both, arch.joints * (2 if i == 1 else 1), 5, 0, 1, h, w))
    return out


def predicted(table: Mapping[str, Any], arch: Arch, size: tuple[int, int]) -> float:
    """Milliseconds of a network by the table: the sum of its blocks, with one call of the engine for all of them.

    `ValueError` names the first block that is not in the table.
    """
    known = {
        Block(**{**row["block"], "channels": tuple(row["block"]["channels"])}): row["ms"] for row in table["blocks"]
    }
    total = table["call_ms"]
    for block in blocks(arch, size):
        if block not in known:
            raise ValueError(f"the table has no {block}: add its architecture to `edgepose bench --table`")
        total += known[block] - table["call_ms"]
    return total


def write_table(
    path: Path, models: Sequence[str], engine: str, threads: int, size: tuple[int, int] | None, rounds: int
) -> int:
    """Time every distinct block of the LitePose architectures `models` and the whole networks; write the table."""
    from edgepose.bench import machine
    from edgepose.runtimes import need

    need("export", "torch", "onnx", "onnxscript")
    from torch import nn

    if engine not in ENGINES:
        raise ValueError(f"blocks are timed alone in {' and '.join(ENGINES)}, not in {engine!r}")
    if path.is_dir() or not path.parent.is_dir():
        raise ValueError(f"cannot write the table to {path}")
    nets = {label: _fitted(card, hw) for name in models for label, card, hw in _cards(name, size)}
    wholes = dict(list(nets.items())[: max(len(models), WHOLES)])
    calls: dict[Any, tuple[Call, list[NDArray[np.float32]]]] = {}
    with progress("blocks to build", sum(len(blocks(net.arch, hw)) + 1 for net, hw in nets.values())) as step:
        for name, (net, hw) in nets.items():
            for block, module, inputs in parts(net, hw):
                if block not in calls:
                    calls[block] = (ENGINES[engine](module, inputs, threads), inputs)
                step()
            if name in wholes:
                calls[name] = (ENGINES[engine](net, [picture(hw)], threads), [picture(hw)])
            step()
        one = [np.ones((1, 1, 1, 1), np.float32)]
        calls[None] = (ENGINES[engine](nn.ReLU(), one, threads), one)  # next to nothing to do: what a call costs
    ms = timed(calls, rounds)
    rows = [{"block": asdict(block), "ms": round(ms[block], 5)} for block in calls if isinstance(block, Block)]
    table: dict[str, Any] = {"format": FORMAT, "machine": machine(), "engine": engine, "threads": threads}
    table |= {"rounds": rounds, "call_ms": round(ms[None], 5), "blocks": rows, "networks": []}
    for name, (net, hw) in wholes.items():
        guess = predicted(table, net.arch, hw)
        row = {"model": name, "arch": asdict(net.arch), "input": list(hw), "ms": round(ms[name], 4)}
        table["networks"].append({**row, "sum_ms": round(guess, 4), "error": round(guess / ms[name] - 1, 4)})
        print(
            f"{name} {hw[0]}x{hw[1]}: {ms[name]:.2f} ms, sum of its blocks {guess:.2f} ms ({guess / ms[name] - 1:+.1%})"
        )
    off = [abs(row["error"]) for row in table["networks"]]
    table["error"] = {"mean": round(statistics.mean(off), 4), "worst": max(off)}
    write_whole(path, (json.dumps(table, indent=1) + "\n").encode())
    print(
        f"{len(rows)} distinct blocks in {engine}, {threads} threads -> {path}; sums are off by {max(off):.1%} at worst"
    )
    return 0


def _cards(name: str, size: tuple[int, int] | None) -> list[tuple[str, Card, tuple[int, int]]]:
    """Label, card and input (height, width) of the architecture called `name`; where that is a recipe with a search
    space, of as many of its candidates as have every block between them."""
    from edgepose import models, recipes
    from edgepose.search.space import Space, covering

    plan = recipes.find(name) if name in recipes.names() else None
    if plan is None or not plan.search.space:
        card = models.card(name)
        return [(name, card, size or models.input_hw(card.codec.input_size))]  # type: ignore[attr-defined]
    card = models.card(plan.model)
    arch = models.build(replace(card, arch={**card.arch, **plan.arch})).arch
    space = Space.of(arch, card.codec.input_size, plan.search.space)  # type: ignore[attr-defined]
    chosen = covering(space, lambda c: blocks(c.arch, (c.size, c.size)))
    return [
        (f"{name} {i + 1}", replace(card, arch=asdict(c.arch)), size or (c.size, c.size)) for i, c in enumerate(chosen)
    ]


def _fitted(card: Card, hw: tuple[int, int]) -> tuple[Any, tuple[int, int]]:
    """The LitePose of a card, its norms fitted to a photograph so that no number fades away, and its input size."""
    import torch

    from edgepose import models
    from edgepose.models.litepose import LitePose

    torch.manual_seed(0)
    net = models.build(card)
    if not isinstance(net, LitePose):
        raise ValueError(f"{card.model} is no LitePose: its blocks are not those of the table")
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        net.train()(torch.from_numpy(picture(hw)))
    return net.eval(), hw


def picture(size: tuple[int, int]) -> NDArray[np.float32]:
    """A photograph as a batch (1, 3, h, w) of `size` (height, width)."""
    import cv2

    from edgepose.codecs import normalise

    image = cv2.resize(read_image(photographs()[-1]), size[::-1], interpolation=cv2.INTER_AREA)
    return normalise(np.asarray(image, np.uint8))


def parts(net: Any, size: tuple[int, int]) -> list[tuple[Block, Any, list[NDArray[np.float32]]]]:
    """The blocks of a network, each with its module and what reaches it when the network sees a photograph."""
    import torch
    from torch import nn

    class Sum(nn.Module):
        """`after` the sum of one module for each input: a step of the fusion head."""

        def __init__(self, modules: Sequence[nn.Module], after: nn.Module) -> None:
            super().__init__()
            self.each, self.after = nn.ModuleList(modules), after

        def forward(self, *inputs: Any) -> Any:
            made = [module(x) for module, x in zip(self.each, inputs, strict=True)]
            return self.after(made[0] + made[1] if len(made) > 1 else made[0])

    out, wanted = [], iter(blocks(net.arch, size))

    def do(module: nn.Module, *inputs: Any) -> Any:
        block = next(wanted)
        assert block.channels == tuple(x.shape[1] for x in inputs), block
        assert (block.height, block.width) == tuple(inputs[0].shape[2:]), block
        out.append((block, module, [np.ascontiguousarray(x.numpy()) for x in inputs]))
        return module(*inputs)

    with torch.inference_mode():
        x = do(net.first, torch.from_numpy(picture(size)))
        raw = [x]
        for stage in net.stage:
            for module in stage:
                x = do(module, x)
            raw.append(x)
        raw = raw[3::-1]
        for i, norm in enumerate(net.deconv_bnrelu):
            fusion = bool(len(net.deconv_raw))
            x = do(
                Sum([net.deconv_refined[i], *([net.deconv_raw[i]] if fusion else [])], norm), x, *raw[i : i + fusion]
            )
            if i:
                heads = [net.final_refined[i - 1], *([net.final_raw[i - 1]] if fusion else [])]
                do(Sum(heads, nn.Identity()), x, *raw[i + 1 : i + 1 + fusion])
    assert next(wanted, None) is None
    return out


def timed(calls: Mapping[Any, tuple[Call, Sequence[NDArray[np.float32]]]], rounds: int) -> dict[Any, float]:
    """Median milliseconds of each call; all take turns in an order that changes each round, after a warm-up."""
    dice, times = random.Random(0), {key: list[float]() for key in calls}
    with progress("rounds", rounds + 1) as step:
        for turn in range(rounds + 1):
            for key in dice.sample(list(calls), len(calls)):
                call, inputs = calls[key]
                call(inputs)  # brings the weights back into the cache
                runs, begin = 0, time.perf_counter()
                while (spent := time.perf_counter() - begin) < LEAST or not runs:
                    call(inputs)
                    runs += 1
                if turn:
                    times[key].append(1e3 * spent / runs)
            step()
    return {key: statistics.median(ms) for key, ms in times.items()}


def _onnx(module: Any, inputs: Sequence[NDArray[np.float32]], threads: int) -> Call:
    """The module exported as `runtimes.onnx` exports whole networks."""
    import onnx
    import onnxruntime
    import torch

    from edgepose.runtimes import _graph

    names, file = [f"x{i}" for i in range(len(inputs))], io.BytesIO()
    tensors = tuple(torch.from_numpy(x) for x in inputs)
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it reports operators of packages that are not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(module.eval(), tensors, dynamo=True, input_names=names, verbose=False)
    finally:
        logger.setLevel(level)
    assert program is not None
    model = program.model_proto
    _graph.strip(model)
    _graph.merge_summed_deconvs(model)
    _graph.fold_norms(model)
    onnx.save(model, file)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 4
    options.add_session_config_entry("session.force_spinning_stop", "1")  # threads of the others must not be in the way
    session = onnxruntime.InferenceSession(file.getvalue(), options, providers=["CPUExecutionProvider"])
    return lambda given: session.run(None, dict(zip(names, given, strict=True)))


def _pytorch(module: Any, inputs: Sequence[NDArray[np.float32]], threads: int) -> Call:
    """The module as `runtimes.pytorch` runs whole networks."""
    import torch

    torch.set_num_threads(threads)
    module = module.eval().to(memory_format=torch.channels_last)

    def call(given: Sequence[NDArray[np.float32]]) -> Any:
        with torch.inference_mode():
            return module(*(torch.from_numpy(x).to(memory_format=torch.channels_last) for x in given))

    return call


ENGINES = {"onnx": _onnx, "pytorch": _pytorch}
