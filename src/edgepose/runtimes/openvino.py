"""OpenVINO: Intel's engine, the fastest here on x86. A file is model.xml with its weights beside it in model.bin."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import cpus, need, onnx, sibling, whole

SUFFIX = "xml"
EXTRA, READS, WRITES = "openvino", ("openvino",), ("openvino", "onnx")
FREE, LAYOUT, PEAKS = True, "nchw", True


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Export a torch module by way of ONNX; see `runtimes.onnx.write`. `half` stores weights as float16."""
    need(EXTRA, *WRITES)
    import openvino  # pyright: ignore[reportMissingImports]

    with whole(path, "bin") as part, tempfile.TemporaryDirectory() as folder:
        between = Path(folder) / "model.onnx"
        onnx.write(card, network, between)
        openvino.save_model(openvino.convert_model(between), part, compress_to_fp16=half)
        onnx.check(read(card, part, threads=1), card, network, half)


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """A compiled model on `device` ("cpu", "gpu", "npu", "auto"), computing in float32; `threads` as in `onnx.read`.

    `ValueError` for an unusable file or device.
    """
    need(EXTRA, *READS)
    import openvino  # pyright: ignore[reportMissingImports]

    path, core = Path(path), openvino.Core()
    kinds = sorted({name.split(".")[0].lower() for name in core.available_devices} | {"auto"})
    if device not in kinds:
        raise ValueError(f"no device {device!r} for openvino here: it is one of {', '.join(kinds)}")
    if not sibling(path, "bin").is_file():
        raise ValueError(f"cannot use {path}: {sibling(path, 'bin').name}, which holds its weights, is missing")
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
    if device == "cpu":
        settings["INFERENCE_NUM_THREADS"] = threads or cpus()
    try:
        model = core.read_model(path, sibling(path, "bin"))
        request = core.compile_model(model, device.upper(), settings).create_infer_request()
    except Exception as error:  # OpenVINO raises RuntimeError and others of its own
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:300]}") from error

    def run(batch: Batch) -> Maps:
        try:
            request.infer([batch], share_inputs=False)
            return [tensor.data.copy() for tensor in request.output_tensors]
        except Exception as error:
            raise ValueError(f"the network failed on a batch {batch.shape}: {str(error)[:300]}") from error

    return run
