"""ONNX Runtime: the engine of the core install. Predicting needs only onnxruntime; exporting needs torch."""

from __future__ import annotations

import copy
import logging
import warnings
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import _graph, compare, cpus, example, fixed_size, free, need, whole

SUFFIX = "onnx"
EXTRA, READS, WRITES = "export", ("onnxruntime",), ("torch", "onnx", "onnxscript")
FREE, LAYOUT, PEAKS = True, "nchw", True


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Export a torch module; batch size is free, height and width too where the codec takes pictures of any size.

    A `Twin` of an ONNX graph is that graph again. `half` stores weights as float16, which halves the file; they become
    float32 again when it is loaded. The written file must give the network's maps (to 1e-4 of their range; 5e-2 with
    `half`), else `ValueError` and no file. Of a binary network, where a sign that flips on a rounding tie may change
    all maps, the graph must give them in float64.
    """
    need(EXTRA, *WRITES)
    import onnx

    from edgepose.models._binary import is_binary

    binary = is_binary(network)
    if binary and half:
        raise ValueError("a binary network is exported with float32 constants: float16 would move its thresholds")
    model = graph(card, network)
    with whole(path) as part:
        for stored_half in (False, True)[: 1 + half]:
            if stored_half:
                _graph.halve(model)
            onnx.save(model, part)
            run = read(card, part, threads=1)
            if binary:
                _check_binary(run, model, card, network)
            else:
                check(run, card, network, stored_half)


def graph(card: Card, network: Any) -> Any:
    """The ONNX model of a torch module, folded and merged (`_graph`)."""
    import torch

    from edgepose.runtimes._twin import Twin

    codec: Any = card.codec
    if isinstance(network, Twin) and network.size is None and not codec.peaks_in_graph:
        return copy.deepcopy(network.model)
    network = _prepared(card, network)
    images = example(sizes(card)[0])
    open_sides: dict[int, Any] = dict.fromkeys((0, 2, 3) if free(card) else (0,), torch.export.Dim.DYNAMIC)
    with torch.inference_mode():
        names = [f"maps{i}" for i in range(len(network(images)))]
    model = _export(network, (images,), names, open_sides)
    _graph.strip(model)
    _graph.merge_summed_deconvs(model)
    _graph.fold_norms(model)
    return model


def sizes(card: Card) -> list[tuple[int, int, int]]:
    """(n, h, w) of batches that the card's network takes: to trace with, then to check with."""
    if free(card):
        return [(2, 128, 192), (1, 128, 128), (3, 64, 192)]
    return [(n, *fixed_size(card, "onnx")) for n in (2, 1, 3)]


def _prepared(card: Card, network: Any) -> Any:
    """A copy of the network in eval mode, with its peaks behind it where the card's codec wants them in the graph."""
    from edgepose.models._binary import is_binary
    from edgepose.models._folded import folded

    codec: Any = card.codec
    network = folded(network.cpu()) if is_binary(network) else copy.deepcopy(network).cpu().eval()
    if not codec.peaks_in_graph:
        return network
    from edgepose.runtimes._peaks import with_peaks

    return with_peaks(network, codec)


def check(run: Run, card: Card, network: Any, half: bool = False) -> None:
    """`ValueError` unless `run` gives the maps of the torch `network`: to 1e-4 of their range, 5e-2 with `half`.

    Of peaks, the values: on noise, equally high ones may change places.
    """
    codec: Any = card.codec
    network = _prepared(card, network)
    values = (lambda maps: [m[..., 2] for m in maps]) if codec.peaks_in_graph else (lambda maps: maps)
    for shape in sizes(card)[1:]:
        compare(lambda b: values(run(b)), lambda b: values(network(b)), example(shape), 5e-2 if half else 1e-4)


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


def _check_binary(run: Run, model: Any, card: Card, network: Any) -> None:
    """`ValueError` unless the graph gives the maps of a binary network in float64, and `run` such maps at all."""
    network = _prepared(card, network)
    (_, h, w), *others = sizes(card)
    compare(_reference(model), network.double(), example((1, h, w)).double(), 1e-6)
    for shape in others:
        _check_shapes(run, network.float(), example(shape))


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
    """The network in `path` on `device` ("cpu", "cuda"); `threads` is all CPUs this process may use unless given.

    `ValueError` for an unusable file or device, or a network that does not take one batch.
    """
    opened = session(path, device, threads)
    if len(opened.get_inputs()) != 1:
        raise ValueError(f"cannot use {path}: it takes {len(opened.get_inputs())} inputs, not one batch of pictures")
    images = opened.get_inputs()[0]

    def run(batch: Batch) -> Maps:
        try:
            return list(opened.run(None, {images.name: batch}))
        except Exception as error:
            raise ValueError(f"the network failed on a batch {batch.shape}: {str(error)[:300]}") from error

    return run


def session(path: str | Path, device: str = "cpu", threads: int | None = None) -> Any:
    """An ONNX Runtime session of the file `path`; see `read`."""
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
        return ort.InferenceSession(str(path), options, providers=[provider])
    except Exception as error:  # onnxruntime's own exceptions share no base class
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:300]}") from error
