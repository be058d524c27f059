"""Packed binary networks against real ones: python benchmarks/binary.py --out FOLDER (needs openvino and nncf as well)

Blocks: eight blocks of two 3x3 convolutions in a row, each with a shortcut and (R)PReLU, at the four sizes that
HRNet-W32 has at 256x192; the time of one block on every code path, beside the same blocks with real weights in ONNX
Runtime and in OpenVINO (float32, its own choice of precision, and int8 by NNCF). Whole: BiHRNet-W32 beside HRNet-W32.
All engines take turns, so that whatever else the machine does falls on all; medians. Inputs are normally distributed,
weights random, norms have the statistics of such inputs. `--cpu` counts processor time, for one thread on a busy
machine. `--avx2` holds OpenVINO to AVX2 (oneDNN's switch) and takes our AVX2 path alone. `--peak` is native/'s
edgebin-peak, for the shares and the plot.
"""

from __future__ import annotations

import json
import logging
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from torch import nn

from edgepose import models
from edgepose.models import _binary_blocks
from edgepose.runtimes import _edgebin, _walk

SHAPES = ((64, 48, 32), (32, 24, 64), (16, 12, 128), (8, 6, 256))  # height, width, channels
DEPTH = 8
Call = Callable[[np.ndarray], Any]


class Real(nn.Module):
    """The block of `_binary_blocks.Residual` with real convolutions."""

    def __init__(self, c: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(c, c, 3, padding=1, bias=False) for _ in range(2))
        self.bns = nn.ModuleList(nn.BatchNorm2d(c) for _ in range(2))
        self.acts = nn.ModuleList(nn.PReLU(c) for _ in range(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for conv, bn, act in zip(self.convs, self.bns, self.acts, strict=True):
            x = act(bn(conv(x)) + x)
        return x


class Listed(nn.Sequential):
    """A list of one map, as networks give."""

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [super().forward(x)]


@torch.no_grad()
def settled(net: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """With weights of ordinary size, and norms that have seen normally distributed inputs."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None
    net.train()(torch.randn(4, *shape))
    return net.eval()


def packed(net: nn.Module, size: tuple[int, int], channels: int, path: str, threads: int) -> Call:
    """Our engine on one code path."""
    made = _walk.pack(net)
    made.ops[0]["channels"] = channels
    run = _edgebin.Net(made.program(), *made.data(), size, threads, path)
    outputs = [np.empty(shape, np.float32) for shape in run.shapes]
    return lambda x: run.run(x[0], outputs)


def peers(net: nn.Module, shape: tuple[int, ...], threads: int, data: list[np.ndarray]) -> dict[str, Call]:
    """A real network in the other engines."""
    import nncf
    import onnxruntime
    import openvino

    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/net.onnx"
        torch.onnx.export(net, (torch.randn(1, *shape),), file, dynamo=True, input_names=["x"], verbose=False)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
        core = openvino.Core()
        model = core.read_model(file)
        quantized = nncf.quantize(core.read_model(file), nncf.Dataset(list(data)), subset_size=len(data))
        plain = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        calls: dict[str, Call] = {"onnxruntime fp32": lambda x: session.run(None, {"x": x})}
        ways = {"openvino fp32": (model, "f32"), "openvino default": (model, ""), "openvino int8": (quantized, "")}
        if "ONEDNN_MAX_CPU_ISA" in os.environ:  # OpenVINO would still choose bfloat16, and fail
            ways = {"openvino fp32": (model, "f32"), "openvino int8": (quantized, "f32")}
        for name, (graph, precision) in ways.items():
            settings = plain | ({"INFERENCE_PRECISION_HINT": precision} if precision else {})
            request = core.compile_model(graph, "CPU", settings).create_infer_request()
            calls[name] = lambda x, request=request: request.infer([x])
    return calls


def race(calls: dict[str, Call], data: list[np.ndarray], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median milliseconds of each, taken in turn, each round on the next input."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(rounds + 3):
        for name, call in calls.items():
            x = data[turn % len(data)]
            call(x)  # what the last engine left in the cache is gone
            begin = clock()
            call(x)
            if turn >= 3:
                times[name].append(1e3 * (clock() - begin))
    return {name: statistics.median(t) for name, t in times.items()}


def inputs(shape: tuple[int, ...]) -> list[np.ndarray]:
    """Sixteen batches of one."""
    rng = np.random.default_rng(0)
    return [rng.standard_normal((1, *shape), np.float32) for _ in range(16)]


def show(title: str, times: dict[str, float], ours: list[str]) -> None:
    """A line for each engine, with how many times our paths are faster."""
    print(title)
    for name, ms in times.items():
        ratios = "" if name in ours else "  " + ", ".join(f"{o} {ms / times[o]:.2f}x" for o in ours)
        print(f"  {name:18} {ms:9.4f} ms{ratios}", flush=True)


def plot(file: Path, peak: dict[str, float], rows: dict[str, dict[str, Any]]) -> None:
    """Speed of the kernels over the bytes they move, below what registers alone reach."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axis = plt.subplots(figsize=(7, 4.5))
    for i, (path, limit) in enumerate(peak.items()):
        points = [(row["bits per byte"], row["Gbit/s"][path]) for row in rows.values() if path in row["Gbit/s"]]
        if points:
            axis.axhline(limit, color=f"C{i}", linestyle="--", linewidth=1)
            axis.plot(*zip(*points, strict=True), "o-", color=f"C{i}", label=path)
    for name, row in rows.items():
        axis.annotate(name, (row["bits per byte"], 12), rotation=90, fontsize=8, color="grey")
    axis.set(
        xscale="log",
        yscale="log",
        xlabel="pairs of bits compared for every byte moved",
        ylabel="10^9 pairs of bits a second (dashed: nothing but counting)",
    )
    axis.set_ylim(10, 2 * max(peak.values()))
    figure.legend(fontsize=8, loc="upper center", ncols=3)
    figure.tight_layout(rect=(0, 0, 1, 0.94))
    figure.savefig(file, dpi=120)


def main(
    out: Path, threads: int = 1, rounds: int = 25, cpu: bool = False, avx2: bool = False, peak: Path | None = None,
    blocks: bool = True, whole: bool = True,
) -> None:  # fmt: skip
    """Print the tables and write binary.json (and roofline.png) into `out`."""
    if avx2:
        os.environ["ONEDNN_MAX_CPU_ISA"] = "AVX2"
    torch.manual_seed(0)
    clock = time.process_time if cpu else time.perf_counter
    paths = ["avx2"] if avx2 else [p for p in _edgebin.paths() if p != "portable"]
    limits = json.loads(subprocess.run([peak], capture_output=True, text=True, check=True).stdout) if peak else {}
    result: dict[str, Any] = {"threads": threads, "clock": "processor" if cpu else "wall", "peak": limits, "blocks": {}}
    print(f"{threads} threads, {result['clock']} time; peaks {limits}")
    for h, w, c in SHAPES if blocks else ():
        data = inputs((c, h, w))
        ours = settled(Listed(*(_binary_blocks.Residual(c, c) for _ in range(DEPTH))), (c, h, w))
        calls = {path: packed(ours, (h, w), c, path, threads) for path in paths}
        calls |= peers(settled(nn.Sequential(*(Real(c) for _ in range(DEPTH))), (c, h, w)), (c, h, w), threads, data)
        times = {name: ms / DEPTH for name, ms in race(calls, data, rounds, clock).items()}
        macs, moved = 2 * h * w * c * c * 9, 2 * (h * w * c * (4 + 4 + 1 / 8 + 1 / 8) + c * c * 9 / 8)
        speed = {path: macs / times[path] / 1e6 for path in paths}
        row = {"ms": times, "bits per byte": macs / moved, "Gbit/s": speed}
        row["share of peak"] = {p: speed[p] / limits[p] / threads for p in paths if p in limits}
        result["blocks"][f"{h}x{w} C{c}"] = row
        show(f"block {h}x{w}, {c} channels", times, paths)
        print(
            "  "
            + ", ".join(f"{p} {v:.0f} Gbit/s ({row['share of peak'].get(p, 0):.0%} of peak)" for p, v in speed.items())
        )
    if whole:
        data = inputs((3, 256, 192))
        nets = {name: settled(models.build(models.card(name)), (3, 256, 192)) for name in ("bihrnet-w32", "hrnet-w32")}
        calls = {path: packed(nets["bihrnet-w32"], (256, 192), 3, path, threads) for path in paths}
        calls |= peers(nets["hrnet-w32"], (3, 256, 192), threads, data)
        result["whole"] = race(calls, data, rounds, clock)
        show("BiHRNet-W32 packed, HRNet-W32 in the other engines, 256x192", result["whole"], paths)
    out.mkdir(parents=True, exist_ok=True)
    if limits and result["blocks"]:
        plot(out / "roofline.png", limits, result["blocks"])
    (out / "binary.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main)
