"""ONNX Runtime: the engine of the core install. Predicting needs only onnxruntime; exporting needs torch."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import _graph, cpus, need

SUFFIX = "onnx"


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Export a torch module; batch size is free, height and width too where the codec takes whole pictures.

    `half` stores weights as float16, which halves the file; they become float32 again when it is loaded. The written
    file must give the network's maps (to 1e-4 of their range; 5e-2 with `half`), else `ValueError` and no file. Of a
    binary network, where a sign that flips on a rounding tie may change all maps, the graph must give them in float64.
    """
    need("export", "torch", "onnx", "onnxscript")
    import onnx
    import torch

    from edgepose.models._binary import is_binary
    from edgepose.models._folded import folded

    binary = is_binary(network)
    if binary and half:
        raise ValueError("a binary network is exported with float32 constants: float16 would move its thresholds")
    path, part = Path(path), Path(path).with_name(f".{Path(path).name}.{os.getpid()}")
    network = folded(network.cpu()) if binary else copy.deepcopy(network).cpu().eval()
    codec: Any = card.codec
    size = codec.input_size  # int: short side, the other is free; (w, h): fixed
    whole = isinstance(size, int)
    traced, *checked = [(2, 128, 192), (1, 128, 128), (3, 64, 192)] if whole else [(n, *size[::-1]) for n in (2, 1, 3)]
    free: dict[int, Any] = dict.fromkeys((0, 2, 3) if whole else (0,), torch.export.Dim.DYNAMIC)
    with torch.inference_mode():
        names = [f"maps{i}" for i in range(len(network(_example(traced))))]
    model = _export(network, (_example(traced),), names, free)
    _graph.strip(model)
    _graph.merge_summed_deconvs(model)
    _graph.fold_norms(model)
    try:
        for stored_half in (False, True)[: 1 + half]:
            if stored_half:
                _graph.halve(model)
            onnx.save(model, part)
            run = read(card, part, threads=1)
            if binary:
                _compare(_reference(model), network.double(), _example((1, traced[1], traced[2])).double(), 1e-6)
                network.float()
            for shape in checked:
                if binary:
                    _check_shapes(run, network, _example(shape))
                    continue
                _compare(run, network, _example(shape), 5e-2 if stored_half else 1e-4)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _example(shape: tuple[int, int, int]) -> Any:
    """A batch of `shape` (n, h, w) of normally distributed pixels, always the same."""
    import torch

    n, h, w = shape
    return torch.from_numpy(np.random.default_rng(0).standard_normal((n, 3, h, w), np.float32))


def _export(network: Any, inputs: tuple[Any, ...], names: list[str], free: dict[int, Any]) -> Any:
    import torch

    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)  # it reports operators of packages that are not installed
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                inputs,
                dynamo=True,
                input_names=["images"],
                output_names=names,
                dynamic_shapes=(free,),
                verbose=False,
            )
    finally:
        logger.setLevel(level)
    assert program is not None
    return program.model_proto


def _compare(run: Run, network: Any, images: Any, tolerance: float) -> None:
    import torch

    with torch.inference_mode():
        expected = [maps.numpy() for maps in network(images)]
    for i, (a, b) in enumerate(zip(expected, run(images.numpy()), strict=True)):
        if a.shape != b.shape:
            raise ValueError(f"export failed: maps {i} have shape {b.shape}, the network gives {a.shape}")
        off = float(np.abs(a - b).max() / max(np.abs(a).max(), 1e-9))
        if not off <= tolerance:
            raise ValueError(f"export failed: maps {i} are off by {off:.1e} of their range for {tuple(images.shape)}")


def _check_shapes(run: Run, network: Any, images: Any) -> None:
    import torch

    with torch.inference_mode():
        expected = [tuple(maps.shape) for maps in network(images)]
    found = run(images.numpy())
    if [m.shape for m in found] != expected or not all(np.isfinite(m).all() for m in found):
        raise ValueError(f"export failed: maps {[m.shape for m in found]} for {tuple(images.shape)}, not {expected}")


def _reference(model: Any) -> Run:
    """The graph in float64, in onnx's own (slow) evaluator."""
    from onnx import TensorProto, numpy_helper
    from onnx.reference import ReferenceEvaluator

    wide = copy.deepcopy(model)
    constants = [a.t for node in wide.graph.node for a in node.attribute if a.name == "value"]
    for tensor in [*wide.graph.initializer, *constants]:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float64), tensor.name))
    evaluator = ReferenceEvaluator(wide)
    return lambda batch: list(evaluator.run(None, {"images": batch}))  # type: ignore[arg-type]


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """An ONNX Runtime session on `device` ("cpu", "cuda"); `threads` is all CPUs this process may use unless given.

    `ValueError` for an unusable file or device.
    """
    import onnxruntime as ort

    providers = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}
    kind, _, number = device.partition(":")
    if kind not in providers or not (number or "0").isdecimal():
        raise ValueError(f"no device {device!r} for onnx: it is one of {', '.join(providers)}")
    if providers[kind] not in ort.get_available_providers():
        raise ValueError(f"this onnxruntime has no {kind}: pip install onnxruntime-gpu (in place of onnxruntime)")
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads or cpus()
    options.log_severity_level = 4
    if options.intra_op_num_threads == 1:
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    provider = (providers[kind], {"device_id": number or "0"}) if kind == "cuda" else providers[kind]
    try:
        session = ort.InferenceSession(str(path), options, providers=[provider])
        (images,) = session.get_inputs()
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:300]}") from error

    def run(batch: Batch) -> Maps:
        try:
            return list(session.run(None, {images.name: batch}))  # type: ignore[arg-type]
        except Exception as error:
            raise ValueError(f"the network failed on a batch {batch.shape}: {str(error)[:300]}") from error

    return run
