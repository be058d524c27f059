"""Rewrites of an ONNX graph that leave its outputs as they are (to rounding): what the exporter does not do itself."""

from __future__ import annotations

from typing import Any

import numpy as np


def merge_summed_deconvs(model: Any) -> int:
    """Make each sum of two transposed convolutions one, over the concatenated inputs; returns how many were made.

    deconv(x, V) + deconv(y, W) = deconv(concat(x, y), concat(V, W)): the fusion head of LitePose has three, and one big
    matrix product beats two small ones and an addition.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {w.name: w for w in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = [name for node in graph.node for name in node.input] + [o.name for o in graph.output]
    merged = 0
    for add in [n for n in graph.node if n.op_type == "Add"]:
        pair: list[Any] = [makers.get(name) for name in add.input]
        if not all(
            node is not None
            and node.op_type == "ConvTranspose"
            and len([name for name in node.input if name]) == 2
            and node.input[1] in weights
            and uses.count(node.output[0]) == 1
            for node in pair
        ):
            continue
        left, right = pair
        settings = {a.name: helper.get_attribute_value(a) for a in left.attribute}
        if (
            settings != {a.name: helper.get_attribute_value(a) for a in right.attribute}
            or settings.get("group", 1) != 1
        ):
            continue
        arrays = [numpy_helper.to_array(weights[node.input[1]]) for node in pair]
        if arrays[0].shape[1:] != arrays[1].shape[1:]:
            continue
        name = add.output[0]
        graph.initializer.append(numpy_helper.from_array(np.concatenate(arrays), f"{name}_weight"))
        both = helper.make_node("Concat", [left.input[0], right.input[0]], [f"{name}_inputs"], axis=1)
        made = helper.make_node("ConvTranspose", [f"{name}_inputs", f"{name}_weight"], [name], **settings)
        _replace(graph, add, [both, made])
        for node in pair:
            graph.node.remove(node)
        merged += 1
    _drop_unused(graph)
    return merged


def fold_norms(model: Any) -> int:
    """Fold each BatchNormalization behind a lone transposed convolution into its weight and bias; returns how many.

    The exporter has folded those behind convolutions already.
    """
    from onnx import helper, numpy_helper

    graph = model.graph
    weights = {w.name: w for w in graph.initializer}
    makers = {name: node for node in graph.node for name in node.output}
    uses = [name for node in graph.node for name in node.input] + [o.name for o in graph.output]
    folded = 0
    for norm in [n for n in graph.node if n.op_type == "BatchNormalization"]:
        conv = makers.get(norm.input[0])
        if conv is None or conv.op_type != "ConvTranspose" or uses.count(conv.output[0]) != 1:
            continue
        settings = {a.name: helper.get_attribute_value(a) for a in conv.attribute}
        if settings.get("group", 1) != 1 or not {*conv.input[1:], *norm.input[1:]} - {""} <= set(weights):
            continue
        scale, shift, mean, variance = (
            numpy_helper.to_array(weights[name]).astype(np.float64) for name in norm.input[1:]
        )
        epsilon = next((a.f for a in norm.attribute if a.name == "epsilon"), 1e-5)
        gain = scale / np.sqrt(variance + epsilon)
        weight = numpy_helper.to_array(weights[conv.input[1]]) * gain[:, None, None]
        old = numpy_helper.to_array(weights[conv.input[2]]) if len(conv.input) > 2 and conv.input[2] else 0.0
        name = norm.output[0]
        arrays = {f"{name}_folded": weight, f"{name}_bias": shift + (old - mean) * gain}
        graph.initializer.extend(numpy_helper.from_array(a.astype(np.float32), key) for key, a in arrays.items())
        _replace(graph, norm, [helper.make_node("ConvTranspose", [conv.input[0], *arrays], [name], **settings)])
        graph.node.remove(conv)
        folded += 1
    _drop_unused(graph)
    return folded


def halve(model: Any) -> None:
    """Store float32 weights as float16 behind a Cast, which ONNX Runtime folds away when it loads: half the file."""
    from onnx import TensorProto, helper, numpy_helper

    graph, casts = model.graph, []
    for weight in list(graph.initializer):
        array = numpy_helper.to_array(weight)
        if array.dtype != np.float32 or array.size < 16:
            continue
        if np.abs(array).max() > np.finfo(np.float16).max:
            continue
        graph.initializer.remove(weight)
        graph.initializer.append(numpy_helper.from_array(array.astype(np.float16), f"{weight.name}_half"))
        casts.append(helper.make_node("Cast", [f"{weight.name}_half"], [weight.name], to=TensorProto.FLOAT))
    rest = list(graph.node)
    del graph.node[:], graph.value_info[:]
    graph.node.extend(casts + rest)


def widen(model: Any) -> None:
    """Undo `halve`: float32 weights, without the Cast behind them."""
    from onnx import TensorProto, helper, numpy_helper

    graph = model.graph
    weights = {w.name: w for w in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Cast" and n.input[0] in weights]:
        if helper.get_attribute_value(node.attribute[0]) == TensorProto.FLOAT:
            array = numpy_helper.to_array(weights[node.input[0]]).astype(np.float32)
            graph.initializer.append(numpy_helper.from_array(array, node.output[0]))
            graph.node.remove(node)
    _drop_unused(graph)


def strip(model: Any) -> None:
    """Drop what the exporter notes for debugging (names of Python classes, stack traces, inner shapes)."""
    del model.graph.value_info[:], model.metadata_props[:], model.graph.metadata_props[:]
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""


def _replace(graph: Any, node: Any, others: list[Any]) -> None:
    at = list(graph.node).index(node)
    graph.node.remove(node)
    for i, other in enumerate(others):
        graph.node.insert(at + i, other)


def _drop_unused(graph: Any) -> None:
    used = {name for node in graph.node for name in node.input}
    for weight in [w for w in graph.initializer if w.name not in used]:
        graph.initializer.remove(weight)
