"""What RMPG adds to the latency of a network, by place: python benchmarks/rmpg_latency.py --out rmpg-latency.md

Hosts bare and with the module at each of its places, exported to ONNX and run by ONNX Runtime with one thread, one crop
a call. Crops are those of the people that the default model finds in the photographs that ship; weights are random,
which says nothing about poses but costs what trained ones cost. Bare host and refined ones take turns on the same crop,
in an order that changes each time, after a warm-up, in one process. Ratios are the median over the turns of one turn's
time over the bare host's of the same turn; `cpu` is processor time, which other work on the machine disturbs less.
"""

from __future__ import annotations

import random
import statistics
import tempfile
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import tyro

import edgepose
from edgepose import bench, models
from edgepose.codecs import Run
from edgepose.cost import cost
from edgepose.detect import boxes
from edgepose.models._parsegraph import Refine
from edgepose.results import write_whole
from edgepose.runtimes import onnx as engine
from edgepose.sources import photographs, read_image

EXTRA = Refine(extra_conv=True)  # as `simplebaseline-r50-rmpg` has it
CASES: dict[str, dict[str, Refine]] = {  # host -> where the module stands
    "efficientlite-0-person": {f"deconvolution {p}": Refine(place=p) for p in (1, 2)},
    "simplebaseline-r50": {f"deconvolution {p}": replace(EXTRA, place=p) for p in (1, 2, 3)},
    "vitpose-s": {"before the decoder": Refine()},
    "vitpose-b": {"before the decoder": Refine()},
    "hourglass-52": {"before the heatmaps": Refine()},
}
HEADS = ("host", "place", "gmacs", "x", "ms", "ms cpu", "x ms", "x cpu")


def people(least: float = 0.35) -> list[tuple[Any, Any]]:
    """Every photograph that ships with the boxes of those who are surely in it."""
    finder = edgepose.load()
    found = []
    for path in photographs():
        image = read_image(path)
        poses = finder(image)
        found.append((image, boxes(poses[np.asarray(poses.person_scores) >= least])))
    return found


def exported(name: str, how: Refine | None, path: Path) -> tuple[Run, float]:
    """The network with its first weights in ONNX Runtime on one thread, and its GMACs."""
    card = models.card(name)
    torch.manual_seed(0)
    net = models.build(replace(card, arch={**card.arch, "refine": how and asdict(how)})).eval()
    for module in net.modules():  # as after training: a module that begins as the identity ends in a BatchNorm of zeros
        if isinstance(module, torch.nn.BatchNorm2d) and not module.weight.any():
            torch.nn.init.ones_(module.weight)
    engine.write(card, net, path)
    macs = cost(net, models.input_hw(card.codec.input_size)).gmacs  # type: ignore[attr-defined]
    return engine.read(card, path, threads=1), macs


def turns(nets: dict[str, Run], crops: list[Any], rounds: int) -> dict[str, list[tuple[float, float]]]:
    """Wall and processor milliseconds of each network, a pair a turn, after a turn that warms up."""
    spent: dict[str, list[tuple[float, float]]] = {name: [] for name in nets}
    dice = random.Random(0)
    for turn in range(rounds + 1):
        for name in dice.sample(list(nets), len(nets)):
            wall, cpu = time.perf_counter(), time.process_time()
            nets[name](crops[turn % len(crops)])
            pair = 1e3 * (time.perf_counter() - wall), 1e3 * (time.process_time() - cpu)
            if turn:
                spent[name].append(pair)
    return spent


def rows(host: str, found: list[tuple[Any, Any]], rounds: int) -> list[tuple[str, ...]]:
    """The lines of the table for one host."""
    codec: Any = models.card(host).codec
    plain = replace(codec, flip=False)
    batches = [plain.encode(image, where)[0] for image, where in found]
    crops = [batch[i : i + 1] for (batch,) in filter(None, batches) for i in range(len(batch))]
    with tempfile.TemporaryDirectory() as folder:
        nets, macs = {}, {}
        for i, (name, how) in enumerate({"none": None, **CASES[host]}.items()):
            nets[name], macs[name] = exported(host, how, Path(folder) / f"{i}.onnx")
        spent = turns(nets, crops, rounds)
    lines = []
    for name, pairs in spent.items():
        wall, cpu = (statistics.median(pair[k] for pair in pairs) for k in (0, 1))
        over = [statistics.median(a[k] / b[k] for a, b in zip(pairs, spent["none"], strict=True)) for k in (0, 1)]
        cells = (f"{macs[name]:.3f}", f"{macs[name] / macs['none']:.2f}", f"{wall:.1f}", f"{cpu:.1f}")
        lines.append((f"`{host}`" * (name == "none"), name, *cells, *(f"{ratio:.2f}" for ratio in over)))
    return lines


def main(hosts: tuple[str, ...] = tuple(CASES), rounds: int = 20, out: Path | None = None) -> None:
    """Print the table, and write it with the machine's name to `out`."""
    for host in hosts:
        if host not in CASES:
            raise SystemExit(f"no host {host!r}; known: {', '.join(CASES)}")
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    found = people()
    text = [f"| {' | '.join(HEADS)} |", "|" + "---|" * len(HEADS)]
    print(f"{sum(len(where) for _, where in found)} crops", *text, sep="\n", flush=True)
    for host in hosts:
        for line in rows(host, found, rounds):
            text.append(f"| {' | '.join(line)} |")
            print(text[-1], flush=True)
    facts = bench.machine()
    text.append(f"\n{facts['processor']}, onnxruntime {facts['versions']['onnxruntime']}, {rounds} turns")
    print(text[-1])
    if out is not None:
        write_whole(out, ("\n".join(text) + "\n").encode())


if __name__ == "__main__":
    tyro.cli(main)
