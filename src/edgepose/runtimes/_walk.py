"""From a torch network with binary convolutions to a packed one: BatchNorms, shifts and scales fold into what is there.

The network is traced with torch.fx; `Unit` and the other layers of `models/_binary.py` are taken whole. Needs torch.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import torch
from torch import fx, nn

from edgepose.models import _binary, _binary_blocks
from edgepose.runtimes._order import Array, Op, Signs, Value, numbered, repeats, words
from edgepose.runtimes._packed import THEN, Packed

LEAVES = (_binary.Unit, _binary.Merge, _binary.RSign, _binary.RPReLU, _binary.BinaryConv, _binary.Bypass)
LEAVES = (*LEAVES, _binary_blocks.Gate)
CONVS = ("real", "binary")


def pack(network: nn.Module) -> Packed:
    """The packed twin of a torch network in eval mode; `ValueError` names a layer that it cannot hold."""
    if not _binary.is_binary(network):
        raise ValueError("the runtime binary is for binary networks: this one has no binary convolution")
    return _Walk(network).packed()


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, LEAVES) or super().is_leaf_module(m, module_qualified_name)


class _Walk:
    def __init__(self, network: nn.Module) -> None:
        self.ops: list[Op] = []
        self.modules = dict(network.named_modules())
        try:
            self.graph = _Tracer().trace(network)
        except (ValueError, TypeError) as error:  # TraceError is a ValueError
            raise ValueError(f"the runtime binary cannot follow this network: {error}") from error
        self.made: dict[fx.Node, Any] = {}
        with torch.inference_mode():
            for node in self.graph.nodes:
                self.made[node] = self._visit(node)

    def packed(self) -> Packed:
        """With numbers for operations and arrays."""
        return numbered([op for op in self.ops if op["op"] in ("input", "output")])

    # ── nodes ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _visit(self, node: fx.Node) -> Any:
        args = [self._of(a) for a in node.args]
        if node.op == "placeholder":
            return self._emit("input", channels=3)
        if node.op == "output":
            outs = args[0] if isinstance(args[0], (list, tuple)) else args
            return [self._emit("output", **{"in": self._plain(v)}) for v in outs]
        if node.op == "call_module":
            return self._module(self.modules[str(node.target)], str(node.target), args[0], self._only_reader(node))
        if node.op == "call_function" and node.target in (operator.add, operator.iadd, torch.add):
            return self._sum(args[0], args[1], node)
        if node.op == "call_function" and node.target is torch.cat and node.args[1:] in ((1,), (-3,)):
            return self._emit("concat", parts=[{"in": self._plain(v)} for v in args[0]])
        if node.op == "call_function" and node.target is operator.mul:
            return self._emit("scale", **{"in": self._plain(args[0]), "gains": self._plain(args[1])})
        raise ValueError(f"the runtime binary has no {node.target} ({node.name})")

    def _of(self, argument: Any) -> Any:
        if isinstance(argument, (list, tuple)):
            return [self._of(a) for a in argument]
        return self.made.get(argument) if isinstance(argument, fx.Node) else argument

    def _only_reader(self, node: fx.Node) -> bool:
        """Whether nothing but `node` reads its first argument, so that both can be one operation."""
        return self._read_once(node.args[0])

    def _read_once(self, node: Any) -> bool:
        """Whether one node alone reads this one, and what it passes on."""
        while isinstance(node, fx.Node) and len(node.users) == 1:
            module = self.modules.get(str(node.target))
            passes = isinstance(module, _binary.Bypass) and module.a == module.b and module.stride == 1
            if not passes and not isinstance(module, (nn.Identity, nn.Upsample)):
                return True
            node = node.args[0]
        return False

    def _module(self, module: Any, name: str, x: Any, alone: bool) -> Any:
        match module:
            case _binary.Unit():
                return self._unit(module, name, self._value(x))
            case _binary.Merge():
                return self._act(self._norm(self._value(x), module.bn, alone), *_rprelu(module.act), True)
            case _binary.RPReLU():
                return self._act(self._value(x), *_rprelu(module), alone)
            case _binary.RSign():
                return Signs(self._value(x), _numpy(module.shift))
            case _binary.BinaryConv():
                op, scale, bias = self._slices([module], name, x)
                return self._emit("binary", **op, scale=scale, bias=bias)
            case _binary.Bypass():
                return self._bypass(module, self._value(x))
            case _binary_blocks.Gate():
                fc = [_numpy(t) for c in (module.down, module.up) for t in (c.weight, c.bias) if t is not None]
                parts = dict(zip(("weights", "bias", "weights2", "bias2"), fc, strict=True))
                return self._emit("means", **{"in": self._plain(x)}, hidden=module.down.out_channels, **parts)
            case nn.Conv2d():
                return self._conv(module, name, self._value(x))
            case nn.BatchNorm2d():
                return self._norm(self._value(x), module, alone)
            case nn.ReLU():
                return self._act(self._value(x), np.zeros(1), np.zeros(1), np.zeros(1), alone)
            case nn.Upsample() if module.mode == "nearest" and module.scale_factor in (
                2,
                4,
                8,
                16,
                2.0,
                4.0,
                8.0,
                16.0,
            ):
                value = self._value(x)
                return Value(value.op, value.up + int(module.scale_factor).bit_length() - 1)
            case nn.MaxPool2d(kernel_size=int(k), stride=int(s), dilation=1, ceil_mode=False) if (
                module.padding == k // 2
            ):
                return self._emit("maxpool", **{"in": self._plain(x)}, kernel=k, stride=s)
            case nn.Identity():
                return x
        raise ValueError(f"the runtime binary has no {type(module).__name__} ({name})")

    # ── operations ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _emit(self, op: str, **fields: Any) -> Value:
        self.ops.append(Op(op=op, **fields))
        return Value(self.ops[-1])

    def _value(self, x: Any) -> Value:
        if not isinstance(x, Value):
            raise ValueError(f"the runtime binary cannot read {type(x).__name__} here")
        return x

    def _plain(self, x: Any) -> Op:
        """The operation whose map `x` is, at its own size."""
        value = self._value(x)
        return value.op if value.up == 0 else self._summands([value]).op

    def _summands(self, values: list[Value]) -> Value:
        none = dict.fromkeys(("slope", "lift", "scale", "bias"))
        return self._emit("sum", **none, summands=[{"in": v.op, "up": v.up} for v in values])

    def _slices(self, convs: list[Any], name: str, signs: Any) -> tuple[dict[str, Any], Array, Array]:
        """Convolutions of the same signs side by side, and what makes their values of counts."""
        if not isinstance(signs, Signs):
            raise ValueError(f"{name} reads no signs")
        source, slices, scales, odds = self._plain(signs.value), [], [], []
        for conv in convs:
            if conv.real:
                raise ValueError(f"{name} has real weights (the first of two steps of training): binarise them first")
            latent = _numpy(conv.latent())
            o, a, k, _ = latent.shape
            bits = words((latent >= 0).transpose(0, 2, 3, 1))
            slices.append({"in": source, "least": (-signs.shift).astype(np.float32), "channels": o, "kernel": k})
            slices[-1] |= {"stride": conv.stride, "dilation": conv.dilation, "weights": bits}
            scales.append(np.abs(latent).mean((1, 2, 3), dtype=np.float64))
            odds.append(np.full(o, a * k * k % 2))
        scale = np.concatenate(
            scales
        )  # of +1s and -1s: bits - 2 differing = -2 (differing - floor(bits / 2)) + bits % 2
        none = dict.fromkeys(("add", "slope", "lift", *THEN))
        return {**none, "slices": slices}, -2 * scale, scale * np.concatenate(odds)

    def _unit(self, unit: Any, name: str, x: Value) -> Value:
        signs = Signs(x, _numpy(unit.sign.shift))
        gain, shift = _affine(unit.bn)
        made = None if unit.shortcut is None else self._bypass(unit.shortcut, x, True)
        for i, convs in enumerate([[c] for c in unit.convs] if unit.summed else [list(unit.convs)]):
            op, scale, bias = self._slices(convs, name, signs)
            op["add"] = None if made is None else self._plain(made)
            made = self._emit("binary", **op, scale=gain * scale, bias=gain * bias + (shift if i == 0 else 0))
        assert made is not None
        return made if unit.act is None else self._act(made, *_rprelu(unit.act), True)

    def _bypass(self, module: Any, x: Value, added: bool = False) -> Value:
        if module.stride == 1 and (module.a == module.b or (added and repeats(module.a, module.b))):
            return x
        return self._emit("shortcut", **{"in": self._plain(x)}, channels=module.b, stride=module.stride)

    def _conv(self, conv: nn.Conv2d, name: str, x: Value) -> Value:
        kernel, stride, dilation = conv.kernel_size[0], conv.stride[0], conv.dilation[0]
        square = all(len(set(s)) == 1 for s in (conv.kernel_size, conv.stride, conv.dilation))
        same = conv.padding in ((dilation * (kernel // 2),) * 2, "same") and conv.padding_mode == "zeros"
        if not square or not same or conv.groups != 1 or kernel % 2 == 0 or stride > 2:
            raise ValueError(f"the runtime binary has no such convolution: {name}, {conv}")
        weights = _numpy(conv.weight).transpose(0, 2, 3, 1)  # (out, kernel, kernel, in)
        bias = np.zeros(len(weights)) if conv.bias is None else _numpy(conv.bias)
        window = {"channels": len(weights), "kernel": kernel, "stride": stride, "dilation": dilation}
        none = dict.fromkeys(("add", "slope", "lift", *THEN))
        return self._emit("real", **{"in": self._plain(x)}, **window, weights=weights, bias=bias, **none)

    def _norm(self, x: Value, bn: nn.BatchNorm2d, alone: bool) -> Value:
        gain, shift = _affine(bn)
        op = x.op
        free = alone and x.up == 0 and op["op"] in CONVS + ("sum",) and op["slope"] is None
        if alone and op["op"] in CONVS and op["then"] is not None and op["then_slope"] is None:
            op["then_scale"], op["then_bias"] = op["then_scale"] * gain, op["then_bias"] * gain + shift
            return x
        if free and op.get("add") is None:
            if op["op"] == "real":
                op["weights"] = op["weights"] * gain[:, None, None, None]
            else:
                op["scale"] = gain if op["scale"] is None else op["scale"] * gain
            op["bias"] = shift if op["bias"] is None else op["bias"] * gain + shift
            return x
        made = self._summands([x])
        made.op |= {"scale": gain, "bias": shift}
        return made

    def _act(self, x: Value, shift: Array, slope: Array, rise: Array, alone: bool) -> Value:
        """PReLU(x + shift) + rise."""
        op, channels = x.op, self._channels(x.op)
        if alone and op["op"] in CONVS and op["then"] is not None and op["then_slope"] is None:
            op["then_bias"] = op["then_bias"] + shift
            op["then_slope"], op["then_lift"] = (np.broadcast_to(a, channels) for a in (slope, rise))
            return x
        if not (alone and x.up == 0 and op["op"] in CONVS + ("sum",) and op["slope"] is None):
            x = self._summands([x])
        if shift.any():
            if x.op["bias"] is None:
                x.op["scale"], x.op["bias"] = np.ones(channels), np.zeros(channels)
            x.op["bias"] = x.op["bias"] + shift
        x.op["slope"], x.op["lift"] = (np.broadcast_to(a, channels).astype(np.float32) for a in (slope, rise))
        return x

    def _sum(self, a: Any, b: Any, node: fx.Node) -> Value:
        a, b = self._value(a), self._value(b)
        alone = [self._read_once(n) for n in node.args[:2]]
        for x, other, only, lone in ((a, b, *alone), (b, a, *alone[::-1])):
            if only and x.op["op"] in CONVS and x.up == other.up == 0 and self._onto(x.op, other.op, lone, node):
                return x
        bare = a.up == 0 and a.op["op"] == "sum" and a.op["slope"] is None and a.op["scale"] is None
        if bare and alone[0] and len(a.op["summands"]) < 8:
            a.op["summands"].append({"in": b.op, "up": b.up})
            return a
        return self._summands([a, b])

    def _onto(self, conv: Op, other: Op, lone: bool, node: fx.Node) -> bool:
        """Let a convolution add `other` (read by nothing else if `lone`): at once, or behind its RPReLU where a norm
        and another RPReLU follow. Whether it could."""
        source = other
        if lone and other["op"] == "shortcut" and other["stride"] == 1:
            source = other["in"] if repeats(self._channels(other["in"]), other["channels"]) else other
        if conv["slope"] is None and conv["add"] is None:
            conv["add"] = source
        elif conv["slope"] is not None and conv["add"] is not None and conv["then"] is None and self._merged(node):
            channels = self._channels(conv)
            conv["then"], conv["then_scale"], conv["then_bias"] = source, np.ones(channels), np.zeros(channels)
        else:
            return False
        return True

    def _merged(self, node: fx.Node) -> bool:
        """Whether all that reads `node` is a norm and RPReLU, or an RPReLU."""
        readers = list(node.users)
        follows = [self.modules.get(str(n.target)) for n in readers if n.op == "call_module"]
        return len(readers) == 1 and bool(follows) and isinstance(follows[0], (_binary.Merge, _binary.RPReLU))

    def _channels(self, op: Op) -> int:
        match op["op"]:
            case "binary":
                return sum(s["channels"] for s in op["slices"])
            case "sum":
                return self._channels(op["summands"][0]["in"])
            case "concat":
                return sum(self._channels(p["in"]) for p in op["parts"])
            case "means" | "scale" | "maxpool":
                return self._channels(op["in"])
        return op["channels"]


def _numpy(tensor: torch.Tensor) -> Array:
    return tensor.detach().cpu().double().numpy()


def _affine(bn: nn.BatchNorm2d) -> tuple[Array, Array]:
    """gain and shift of a BatchNorm in eval mode."""
    assert bn.running_mean is not None and bn.running_var is not None
    gain = _numpy(bn.weight) / np.sqrt(_numpy(bn.running_var) + bn.eps)
    return gain, _numpy(bn.bias) - _numpy(bn.running_mean) * gain


def _rprelu(act: Any) -> tuple[Array, Array, Array]:
    return _numpy(act.shift), _numpy(act.slope), _numpy(act.rise)
