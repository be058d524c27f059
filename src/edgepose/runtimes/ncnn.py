"""ncnn: a small engine for phones and boards without other dependencies, made through pnnx.

A file is model.ncnn.param with its weights beside it in model.ncnn.bin.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import compare, cpus, example, fixed_size, need, one_by_one, sibling, silent, whole

SUFFIX = "ncnn.param"
EXTRA, READS, WRITES = "ncnn", ("ncnn",), ("torch", "pnnx", "ncnn")
FREE, LAYOUT, PEAKS = False, "nchw", False


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Export a torch module for single pictures of the codec's one size; `half` stores weights as float16."""
    need(EXTRA, *WRITES)
    import pnnx  # pyright: ignore[reportMissingImports]
    import torch

    h, w = fixed_size(card, "ncnn")
    network, images = network.cpu().eval(), example((1, h, w))
    with whole(path, "bin") as part, tempfile.TemporaryDirectory() as folder:
        made = {
            name: str(Path(folder) / name) for name in ("m.pnnx.param", "m.pnnx.bin", "m_pnnx.py", "m.onnx", "m.py")
        }
        with torch.no_grad(), silent():
            pnnx.export(
                _tupled(network), str(Path(folder) / "m.pt"), images, fp16=half, check_trace=False,
                pnnxparam=made["m.pnnx.param"], pnnxbin=made["m.pnnx.bin"], pnnxpy=made["m_pnnx.py"],
                pnnxonnx=made["m.onnx"], ncnnparam=str(part), ncnnbin=str(sibling(part, "bin")), ncnnpy=made["m.py"],
            )  # fmt: skip
        if not part.is_file():
            raise ValueError(f"export failed: pnnx made no ncnn file of {card.model}")
        compare(read(card, part, threads=1), network, images, 5e-2 if half else 1e-3)


def _tupled(network: Any) -> Any:
    """The network with its maps in a tuple: pnnx makes an operator that ncnn lacks of a list."""
    import torch

    class Tupled(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, images: Any) -> Any:
            maps = self.network(images)
            return tuple(maps) if len(maps) > 1 else maps[0]

    return Tupled().eval()


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """An ncnn network on the CPU, computing in float32; `threads` is all CPUs this process may use unless given.

    `ValueError` for an unusable file or device.
    """
    need(EXTRA, *READS)
    import ncnn as module  # pyright: ignore[reportMissingImports]

    if device != "cpu":
        raise ValueError(f"no device {device!r} for ncnn here: it is cpu")
    path = Path(path)
    if not sibling(path, "bin").is_file():
        raise ValueError(f"cannot use {path}: {sibling(path, 'bin').name}, which holds its weights, is missing")
    ncnn: Any = module
    net = ncnn.Net()
    net.opt.num_threads = threads or cpus()
    net.opt.use_vulkan_compute = False
    for name in ("use_fp16_packed", "use_fp16_storage", "use_fp16_arithmetic", "use_bf16_storage", "use_bf16_packed"):
        setattr(net.opt, name, False)
    with silent():
        broken = net.load_param(str(path)) or net.load_model(str(sibling(path, "bin")))
    if broken:
        raise ValueError(f"cannot use {path}: ncnn cannot load it")
    (start,), ends = net.input_names(), sorted(net.output_names(), key=lambda name: int(name.removeprefix("out")))

    def run(batch: Batch) -> Maps:
        work = net.create_extractor()
        work.input(start, ncnn.Mat(batch[0]).clone())
        found = [work.extract(name) for name in ends]
        if any(code for code, _ in found):
            raise ValueError(f"the network failed on a batch {batch.shape}")
        return [np.array(maps)[None] for _, maps in found]

    return one_by_one(run, fixed_size(card, "ncnn"))
