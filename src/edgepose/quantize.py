"""int8: which layers a network must keep in float, and the quantization that each engine has.

The sweep quantizes one convolution at a time in PyTorch (weights per output channel, its input per tensor, as engines
do), runs photographs, and measures how far the maps are off. Noises of layers add up, so the fewest layers are kept in
float that leave the rest under `BUDGET`.
"""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.card import Card
from edgepose.codecs import Batch
from edgepose.results import write_whole
from edgepose.runtimes import _graph, fixed_size, onnx, silent, whole

BUDGET = 0.001  # of the variance of the maps: noise that all int8 layers together may bring
SHARE = 0.25  # of the multiply-adds that may stay in float
ENOUGH = 4  # pictures that the sweep runs for each layer
NEEDS = {  # engine -> extra and modules of its quantization
    "onnx": ("export", ("torch", "onnx", "onnxruntime")),
    "openvino": ("openvino", ("torch", "onnx", "openvino", "nncf")),
    "litert": ("litert", ("torch", "onnx", "litert_torch", "ai_edge_quantizer")),
}


@dataclass(frozen=True)
class Layer:
    """A convolution in the sweep. node: in the ONNX graph. kind: its kernel in words. macs: of a picture. noise:
    variance of the error in the maps over their own, of the worst output, with this layer alone in int8. kept: in
    float."""

    node: str
    kind: str
    macs: int
    noise: float
    kept: bool = False


def named(card: Card, network: Any) -> Any:
    """The float32 ONNX graph of a network, with a name for every node that the twin's layers have too."""
    model = onnx.graph(card, network)
    _graph.widen(model)
    for i, node in enumerate(model.graph.node):
        node.name = f"{node.op_type.lower()}_{i}"
    return model


def sweep(model: Any, batches: Sequence[Batch], joints: int, tick: Any = lambda: None) -> list[Layer]:
    """The noise of every convolution of an ONNX `model`, in its order, and which are kept in float.

    batches: normalised photographs (n, 3, h, w); `ENOUGH` of them are run for each layer, all for the ranges. joints:
    heatmaps and tags of an output are judged apart.
    """
    import torch

    from edgepose.runtimes._twin import Twin

    twin = Twin(model).eval()
    ranges: dict[str, tuple[float, float]] = {}
    sizes: dict[str, int] = {}

    def watch(name: str) -> Any:
        def hook(layer: Any, given: Any, made: Any) -> None:
            low, high = ranges.get(name, (0.0, 0.0))
            ranges[name] = min(low, float(given[0].min())), max(high, float(given[0].max()))
            count = (given[0] if isinstance(layer, torch.nn.ConvTranspose2d) else made)[0, 0].numel()
            sizes[name] = count * layer.weight.numel()

        return hook

    hooks = [layer.register_forward_hook(watch(name)) for name, layer in twin.layers.items()]
    tensors = [torch.from_numpy(np.ascontiguousarray(b[:1])) for b in batches]
    with torch.inference_mode():
        exact = [_parts(twin(images), joints) for images in tensors]
        for hook in hooks:
            hook.remove()
        some = np.linspace(0, len(tensors) - 1, min(ENOUGH, len(tensors))).round().astype(int)
        exact, tensors, found = [exact[i] for i in some], [tensors[i] for i in some], []
        layer: Any
        for name, layer in twin.layers.items():
            true = layer.weight.data
            layer.weight.data = _rounded(true, isinstance(layer, torch.nn.ConvTranspose2d))
            hook = layer.register_forward_pre_hook(_rounding(*ranges[name]))
            rough = [_parts(twin(images), joints) for images in tensors]
            layer.weight.data = true
            hook.remove()
            found.append(Layer(name, _kind(layer), sizes[name], _noise(exact, rough)))
            tick()
    return _chosen(found)


def _parts(maps: Sequence[Any], joints: int) -> list[Any]:
    return [part for output in maps for part in (output[:, :joints], output[:, joints:]) if part.shape[1]]


def _noise(exact: Sequence[Sequence[Any]], rough: Sequence[Sequence[Any]]) -> float:
    """Error variance over variance, over all pictures, of the worst output."""
    worst = 0.0
    for i in range(len(exact[0])):
        off = sum(float(((a[i] - b[i]) ** 2).mean()) for a, b in zip(exact, rough, strict=True))
        worst = max(worst, off / max(sum(float(a[i].var()) for a in exact), 1e-12))
    return worst


def _rounded(weight: Any, transposed: bool) -> Any:
    """The weight as int8 per output channel, and back."""
    import torch

    dims = [0, 2, 3] if transposed else [1, 2, 3]
    step = (weight.abs().amax(dims, keepdim=True) / 127).clamp(min=1e-12)
    return torch.clamp(torch.round(weight / step), -127, 127) * step


def _rounding(low: float, high: float) -> Any:
    """A hook that turns a layer's input into 256 steps of its range, and back."""
    import torch

    step = max(high - low, 1e-12) / 255
    zero = round(-low / step)

    def hook(_: Any, given: Any) -> Any:
        return ((torch.clamp(torch.round(given[0] / step) + zero, 0, 255) - zero) * step,)

    return hook


def _kind(layer: Any) -> str:
    k = "x".join(map(str, layer.kernel_size))
    if type(layer).__name__ == "ConvTranspose2d":
        return f"transposed {k}"
    return f"depthwise {k}" if layer.groups == layer.in_channels > 1 else k


def _chosen(layers: Sequence[Layer]) -> list[Layer]:
    """The same layers, those kept in float marked: the noisiest first, until the rest is quiet."""
    total, rest = sum(layer.macs for layer in layers), sum(layer.noise for layer in layers)
    kept, work = set(), 0
    for layer in sorted(layers, key=lambda one: -one.noise):
        if rest <= BUDGET:
            break
        if work + layer.macs <= SHARE * total:
            kept.add(layer.node)
            work, rest = work + layer.macs, rest - layer.noise
    return [Layer(one.node, one.kind, one.macs, one.noise, one.node in kept) for one in layers]


def table(layers: Sequence[Layer]) -> str:
    """The sweep as CSV, in the order of the graph."""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["node", "kind", "multiply_adds", "noise", "kept_float"])
    rows.writerows([one.node, one.kind, one.macs, f"{one.noise:.3e}", int(one.kept)] for one in layers)
    return text.getvalue()


def leave(layers: Sequence[Layer], folder: Path, title: str) -> list[str]:
    """Write sweep.csv and, with matplotlib, sweep.png; the layers that are kept in float, with their kinds."""
    write_whole(folder / "sweep.csv", table(layers).encode())
    if find_spec("matplotlib"):
        from edgepose.plots import layer_noise

        rows = [(one.node, one.kind, one.noise, one.kept) for one in layers]
        write_whole(folder / "sweep.png", layer_noise(rows, title))
    return [f"{one.node} ({one.kind})" for one in layers if one.kept]


# ── engines ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def quantized(
    runtime: str, card: Card, network: Any, path: Path, batches: Sequence[Batch], tick: Any = lambda: None
) -> list[Layer]:
    """Write the int8 weights file of a torch `network` for an engine of `NEEDS`, calibrated on `batches` of one
    normalised photograph each; what the sweep found.
    """
    model = named(card, network)
    layers = sweep(model, batches, len(card.codec.skeleton), tick)
    writers = {"onnx": write_onnx, "openvino": write_openvino, "litert": write_litert}
    writers[runtime](card, model, path, batches, [layer.node for layer in layers if layer.kept])
    return layers


def write_onnx(card: Card, model: Any, path: Path, batches: Sequence[Batch], kept: Sequence[str]) -> None:
    """ONNX Runtime's static quantization in QDQ form: weights per channel, activations uint8 of their whole range."""
    import logging

    import onnxruntime.quantization as ort

    class Reader(ort.CalibrationDataReader):
        def __init__(self) -> None:
            self.left = iter(batches)

        def get_next(self) -> Any:
            batch = next(self.left, None)
            return None if batch is None else {"images": batch}

    made = {name for node in model.graph.node if node.name in kept for name in node.output}
    behind = [n.name for n in model.graph.node if n.op_type in ("Clip", "Relu") and n.input[0] in made]
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it recommends a step that changes nothing here
    try:
        with whole(path) as part:
            ort.quantize_static(
                model, str(part), Reader(), quant_format=ort.QuantFormat.QDQ, per_channel=True,
                activation_type=ort.QuantType.QUInt8, weight_type=ort.QuantType.QInt8,
                nodes_to_exclude=[*kept, *behind],
                op_types_to_quantize=["Conv", "ConvTranspose", "Add", "Concat", "Clip", "Relu"],
            )  # fmt: skip
    finally:
        logging.disable(level)


def write_openvino(card: Card, model: Any, path: Path, batches: Sequence[Batch], kept: Sequence[str]) -> None:
    """NNCF's post-training quantization."""
    import nncf  # pyright: ignore[reportMissingImports]
    import openvino  # pyright: ignore[reportMissingImports]

    with silent(), tempfile.TemporaryDirectory() as folder:
        between = Path(folder) / "model.onnx"
        between.write_bytes(model.SerializeToString())
        graph = openvino.convert_model(between)
        ignored = nncf.IgnoredScope(patterns=[rf"^{name}(/.*)?$" for name in kept]) if kept else None
        made = nncf.quantize(
            graph, nncf.Dataset(list(batches)), preset=nncf.QuantizationPreset.MIXED, subset_size=len(batches),
            ignored_scope=ignored,
        )  # fmt: skip
        with whole(path, "bin") as part:
            openvino.save_model(made, part, compress_to_fp16=False)


def write_litert(card: Card, model: Any, path: Path, batches: Sequence[Batch], kept: Sequence[str]) -> None:
    """AI Edge Quantizer's static quantization: weights per channel, activations int8, pictures and maps float32."""
    from ai_edge_quantizer import quantizer, recipe_manager  # pyright: ignore[reportMissingImports]

    from edgepose.runtimes import litert
    from edgepose.runtimes._twin import Twin

    keys, every = recipe_manager.AlgorithmName, recipe_manager.qtyping.TFLOperationName
    manager = recipe_manager.RecipeManager()
    manager.add_static_config(".*", every.ALL_SUPPORTED, activation_num_bits=8, weight_num_bits=8)
    for scope in [rf"_{name}\b" for name in kept]:
        manager.add_quantization_config(scope, every.ALL_SUPPORTED, algorithm_key=keys.NO_QUANTIZE)
    for end in (every.INPUT, every.OUTPUT):
        manager.add_quantization_config(".*", end, algorithm_key=keys.NO_QUANTIZE)
    with whole(path) as part:
        litert.write(card, Twin(model, fixed_size(card, "litert")).eval(), part)
        with silent():
            work = quantizer.Quantizer(str(part), manager.get_quantization_recipe())
            pictures = [{"args_0": np.ascontiguousarray(batch.transpose(0, 2, 3, 1))} for batch in batches]
            ranges = work.calibrate({"serving_default": pictures}, num_threads=1)
            made = work.quantize(ranges, enable_progress_report=False)
        part.write_bytes(bytes(made.quantized_model))
