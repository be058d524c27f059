"""A torch network that computes what an ONNX graph does: the source of an export where only ONNX weights are at hand.

It knows the operators of the graphs that edgepose writes, and is made of the same convolution modules as its networks,
so that other engines' exporters trace it as they trace those. What depends on sizes alone (the ramp of tags) stays
arithmetic for inputs of any size, and becomes constants for one `size`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

Value = Any  # a Tensor, a number, or a list of numbers (shapes and what is computed from them)


class Twin(nn.Module):
    """`Twin(model)(images) -> [maps, ...]`, the outputs of an ONNX `model` (one input). `model` is kept for engines
    that read ONNX themselves. `ValueError` names an operator, or a setting of one, that it does not know.

    size: (h, w) of the only input it will get.
    """

    def __init__(self, model: Any, size: tuple[int, int] | None = None) -> None:
        from onnx import helper, numpy_helper

        super().__init__()
        self.model, self.size = model, size
        graph = model.graph
        self.start, self.ends = graph.input[0].name, [o.name for o in graph.output]
        arrays = {w.name: numpy_helper.to_array(w) for w in graph.initializer}
        for node in graph.node:  # weights stored as float16
            if node.op_type == "Cast" and node.input[0] in arrays:
                arrays[node.output[0]] = arrays[node.input[0]].astype(helper.tensor_dtype_to_np_dtype(_get(node, "to")))
        self.layers = nn.ModuleDict()
        self.steps: list[tuple[Any, list[str], str, dict[str, Any]]] = []
        used: set[str] = set()
        for i, node in enumerate(graph.node):
            name = f"{node.op_type.lower()}_{i}"
            if node.output[0] in arrays:
                continue
            settings = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            if node.op_type in ("Conv", "ConvTranspose"):
                self.layers[name] = _conv(node, settings, [arrays[key] for key in node.input[1:]])
                self.steps.append((name, [node.input[0]], node.output[0], {}))
                used.add(node.input[0])
            elif node.op_type in OPERATORS:
                self.steps.append((OPERATORS[node.op_type], list(node.input), node.output[0], settings))
                used.update(node.input)
            else:
                raise ValueError(f"the operator {node.op_type} of this graph is not known: {', '.join(OPERATORS)}")
        self.constants: dict[str, Value] = {"": None}
        for name in sorted(used & set(arrays)):
            self._keep(name, _number(arrays[name]))
        if size is not None:
            self._fold(size)

    def _keep(self, name: str, value: Value) -> None:
        if isinstance(value, Tensor):
            key = f"constant_{len(self.constants)}"
            self.register_buffer(key, value)
            value = key
        self.constants[name] = value

    def _fold(self, size: tuple[int, int]) -> None:
        """Compute now what depends on the input's size alone."""
        known = {name: self._constant(name) for name in self.constants}
        left = []
        for step in self.steps:
            what, inputs, output, settings = step
            if what is _shape and inputs[0] == self.start:
                known[output] = [1, 3, *size][settings.get("start", 0) : settings.get("end", 4)]
            elif not isinstance(what, str) and all(name in known for name in inputs):
                known[output] = what(*(known[name] for name in inputs), **settings)
            else:
                left.append(step)
                continue
            self._keep(output, known[output])
        self.steps = left

    def _constant(self, name: str) -> Value:
        value = self.constants[name]
        return getattr(self, value) if isinstance(value, str) else value

    def forward(self, images: Tensor) -> list[Tensor]:
        values: dict[str, Value] = {self.start: images}
        for what, inputs, output, settings in self.steps:
            given = [values[name] if name in values else self._constant(name) for name in inputs]
            values[output] = self.layers[what](*given) if isinstance(what, str) else what(*given, **settings)
        return [values[name] for name in self.ends]


def _get(node: Any, name: str) -> Any:
    from onnx import helper

    return next(helper.get_attribute_value(a) for a in node.attribute if a.name == name)


def _number(array: np.ndarray) -> Value:
    """Scalars as numbers, rows of numbers as lists, the rest as tensors."""
    return torch.from_numpy(array.copy()) if array.ndim > 1 else array.tolist()


def _conv(node: Any, settings: dict[str, Any], weights: Sequence[np.ndarray]) -> nn.Module:
    """The convolution module of a node."""
    weight, groups = weights[0], settings.get("group", 1)
    kernel, pads = tuple(weight.shape[2:]), settings.get("pads", [0] * 4)
    if len(kernel) != 2 or pads[:2] != pads[2:] or settings.get("auto_pad", b"NOTSET") != b"NOTSET":
        raise ValueError(f"a {node.op_type} with pads {pads} is not known")
    options: dict[str, Any] = {"stride": tuple(settings.get("strides", (1, 1))), "padding": tuple(pads[:2])}
    options |= {"dilation": tuple(settings.get("dilations", (1, 1))), "groups": groups, "bias": len(weights) > 1}
    if node.op_type == "Conv":
        made: nn.Module = nn.Conv2d(weight.shape[1] * groups, weight.shape[0], kernel, **options)
    else:
        extra = tuple(settings.get("output_padding", (0, 0)))
        made = nn.ConvTranspose2d(weight.shape[0], weight.shape[1] * groups, kernel, output_padding=extra, **options)
    state: dict[str, Any] = dict(
        zip(("weight", "bias"), (torch.from_numpy(w.astype(np.float32)) for w in weights), strict=False)
    )
    made.load_state_dict(state)
    return made


# ── operators: inputs, then attributes ───────────────────────────────────────────────────────────────────────────────


def _clip(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    return F.relu6(x) if (low, high) == (0.0, 6.0) else torch.clamp(x, low, high)


def _add(a: Value, b: Value) -> Value:
    return a + b


def _multiply(a: Value, b: Value) -> Value:
    return a * b


def _divide(a: Value, b: Value) -> Value:
    return a / b if isinstance(a, (Tensor, float)) else a // b  # ONNX divides whole numbers towards zero; ours are >= 0


def _cast(x: Value, to: int, **_: Any) -> Value:
    from onnx import TensorProto

    if isinstance(x, Tensor):
        kinds: dict[int, Any] = {TensorProto.FLOAT: torch.float32, TensorProto.FLOAT16: torch.float16}
        return x.to(kinds[to])
    return x


def _shape(x: Tensor, start: int = 0, end: int = 4) -> Value:
    return list(x.shape)[start:end]


def _squeeze(x: Value, axes: Any = None) -> Value:
    return x[0] if isinstance(x, list) else x.squeeze(axes)


def _unsqueeze(x: Tensor, axes: list[int]) -> Tensor:
    return x.unsqueeze(axes[0])


def _range(start: float, stop: Value, step: float) -> Tensor:
    return torch.arange(start, stop, step, dtype=torch.float32)


def _slice(x: Tensor, starts: list[int], ends: list[int], axes: list[int], steps: list[int] | None = None) -> Tensor:
    if steps is not None and set(steps) != {1}:
        raise ValueError(f"a Slice with steps {steps} is not known")
    for start, end, axis in zip(starts, ends, axes, strict=True):
        length = None if end >= 2**31 else end
        x = x[(slice(None),) * axis + (slice(start, length),)]
    return x


def _concat(*parts: Tensor, axis: int) -> Tensor:
    return torch.cat(parts, axis)


def _resize(x: Tensor, _: Any, scales: list[float], *sizes: Any, mode: bytes, coordinate_transformation_mode: bytes,
            nearest_mode: bytes = b"", **__: Any) -> Tensor:  # fmt: skip
    how = mode, coordinate_transformation_mode
    if how != (b"nearest", b"asymmetric") or nearest_mode != b"floor" or sizes:
        raise ValueError(f"a Resize of {how} is not known")
    return F.interpolate(x, scale_factor=scales[2:], mode="nearest")


def _pool(x: Tensor, kernel_shape: Any, strides: Any = (1, 1), pads: Any = (0, 0, 0, 0), **_: Any) -> Tensor:
    if any(pads):
        raise ValueError(f"an AveragePool with pads {pads} is not known")
    return F.avg_pool2d(x, kernel_shape, strides)


OPERATORS: dict[str, Callable[..., Value]] = {
    "Relu": F.relu, "Clip": _clip, "Add": _add, "Mul": _multiply, "Div": _divide, "Concat": _concat, "Cast": _cast,
    "Shape": _shape, "Squeeze": _squeeze, "Unsqueeze": _unsqueeze, "Range": _range, "Slice": _slice, "Resize": _resize,
    "AveragePool": _pool,
}  # fmt: skip
