"""Packed networks in numpy: the same operations in the same order as native/."""

from __future__ import annotations

from typing import Any

import numpy as np

from edgepose.runtimes._packed import Packed

F = np.float32


def signs(x, least):
    """(h, w, c) -> +1 where x >= least, else -1, as int32."""
    return np.where(x >= least.astype(F), 1, -1).astype(np.int32)


def windows(x, kernel, stride, dilation, fill):
    """(h, w, c) -> (h', w', kernel * kernel, c), taps in rows, borders `fill`."""
    h, w, c = x.shape
    pad = dilation * (kernel - 1) // 2
    wide = np.full((h + 2 * pad, w + 2 * pad, c), fill, x.dtype)
    wide[pad : pad + h, pad : pad + w] = x
    taps = [
        wide[i * dilation : i * dilation + h : stride, j * dilation : j * dilation + w : stride]
        for i in range(kernel)
        for j in range(kernel)
    ]
    return np.stack(taps, 2)


def counts(x, least, weights, kernel, stride, dilation):
    """Differing bits - floor(bits / 2) (h', w', out); weights (out, kernel * kernel, words) uint32."""
    c = x.shape[2]
    bits = np.unpackbits(weights.view(np.uint8), axis=-1, bitorder="little")[..., :c]
    w = bits.astype(np.int32) * 2 - 1
    patches = windows(signs(x, least), kernel, stride, dilation, -1)
    dot = np.einsum("hwkc,okc->hwo", patches.astype(np.float64), w.astype(np.float64), optimize=True).astype(np.int64)
    n = kernel * kernel * c
    return ((n - dot) // 2 - n // 2).astype(np.int32)


def run(packed: Packed, image) -> list[np.ndarray]:
    """Outputs (c, h, w) for an image (c, h, w)."""
    values: list[Any] = []
    outputs = []

    def array(number, dtype=F):
        return None if number == -1 else np.asarray(packed.arrays[number], dtype)

    def act(t, op, then=""):
        slope, lift = array(op[then + "slope"]), array(op[then + "lift"])
        return t if slope is None else np.where(t > 0, t, t * slope) + lift

    def added(t, v):
        return t if v < 0 else t + np.tile(values[v], t.shape[2] // values[v].shape[2])

    def finish(t, op):
        t = act(added(t, op["add"]), op)
        if op["then"] < 0:
            return t
        t = added(t, op["then"]) * array(op["then_scale"]) + array(op["then_bias"])
        return act(t, op, "then_")

    for op in packed.ops:
        match op["op"]:
            case "input":
                values.append(np.ascontiguousarray(image.transpose(1, 2, 0), F))
            case "output":
                outputs.append(values[op["in"]].transpose(2, 0, 1))
            case "binary":
                parts = [
                    counts(
                        values[s["in"]], array(s["least"]),
                        array(s["weights"], np.uint32).reshape(s["channels"], s["kernel"] ** 2, -1),
                        s["kernel"], s["stride"], s["dilation"],
                    )
                    for s in op["slices"]
                ]  # fmt: skip
                t = np.concatenate(parts, 2).astype(F) * array(op["scale"]) + array(op["bias"])
                values.append(finish(t, op))
            case "real":
                x = windows(values[op["in"]], op["kernel"], op["stride"], op["dilation"], 0)
                weights = array(op["weights"]).reshape(op["channels"], -1).T
                x = x.reshape(*x.shape[:2], -1)
                t = np.broadcast_to(array(op["bias"]), (*x.shape[:2], op["channels"]))
                for k in range(x.shape[2]):  # fused: exact product, one rounding (double holds it but for rare ties)
                    t = (x[..., k : k + 1].astype(np.float64) * weights[k] + t).astype(F)
                values.append(finish(t, op))
            case "sum":
                t = None
                for s in op["summands"]:
                    x = values[s["in"]].repeat(2 ** s["up"], 0).repeat(2 ** s["up"], 1)
                    t = x if t is None else t + x
                if op["scale"] >= 0:
                    t = t * array(op["scale"]) + array(op["bias"])
                values.append(act(t, op))
            case "shortcut":
                x = values[op["in"]]
                if op["stride"] == 2:
                    x = ((x[::2, ::2] + x[::2, 1::2]) + (x[1::2, ::2] + x[1::2, 1::2])) * F(0.25)
                a, b = x.shape[2], op["channels"]
                made = np.empty((*x.shape[:2], b), F)
                for o in range(b):
                    t = x[..., o % a]
                    for i in range(o + b, a, b):
                        t = t + x[..., i]
                    made[..., o] = t / F(len(range(o, a, b))) if len(range(o, a, b)) > 1 else t
                values.append(made)
            case "concat":
                values.append(np.concatenate([values[p["in"]] for p in op["parts"]], 2))
            case "means":
                x = values[op["in"]]
                means = x.reshape(-1, x.shape[2]).mean(0, dtype=np.float64)
                w1, w2 = (array(op[k], np.float64) for k in ("weights", "weights2"))
                hidden = np.maximum(w1.reshape(op["hidden"], -1) @ means + array(op["bias"]), 0)
                t = w2.reshape(-1, op["hidden"]) @ hidden + array(op["bias2"])
                values.append((1 / (1 + np.exp(-t))).astype(F).reshape(1, 1, -1))
            case "maxpool":
                window = windows(values[op["in"]], op["kernel"], op["stride"], 1, -np.inf)
                values.append(window.max(2))
            case "scale":
                values.append(values[op["in"]] * values[op["gains"]])
    return outputs
