"""Packed networks that have every operation, random but for their seed: python tests/_edgebin_cases.py FOLDER writes
them for the tools of native/."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np

from edgepose.runtimes._packed import THEN, Packed

NONE = dict.fromkeys(("add", "then"), -1) | dict.fromkeys(("slope", "lift", "scale", "bias", *THEN[1:]))


def random_words(rng, o, kernel, c):
    """Weights (o, kernel * kernel, words) whose last bits mean nothing and must be ignored."""
    return rng.integers(0, 2**32, (o, kernel * kernel, -(-c // 32)), np.uint32)


class Builder:
    """Operations with random numbers."""

    def __init__(self, seed: int, channels: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.packed = Packed()
        self.channels = [channels]
        self.packed.add("input", channels=channels)

    def _made(self, width: int, op: str, /, **fields) -> int:
        self.channels.append(width)
        return self.packed.add(op, **fields)

    def normal(self, *shape):
        return self.rng.standard_normal(shape).astype(np.float32)

    def act(self, c: int, prefix: str = "") -> dict:
        return {prefix + "slope": self.normal(c), prefix + "lift": self.normal(c)}

    def real(self, x, c, kernel=3, stride=1, dilation=1, add=-1, act=True) -> int:
        window = {"channels": c, "kernel": kernel, "stride": stride, "dilation": dilation}
        fields = NONE | {
            "bias": self.normal(c),
            "weights": self.normal(c, kernel * kernel, self.channels[x]) / 9,
            "add": add,
        }
        del fields["scale"]
        return self._made(c, "real", **{"in": x}, **window, **(fields | (self.act(c) if act else {})))

    def binary(self, slices, add=-1, act=True, then=-1) -> int:
        """slices: (in, channels, kernel, stride, dilation)."""
        c = sum(s[1] for s in slices)
        made = [
            {
                "in": x, "least": self.normal(self.channels[x]), "channels": o, "kernel": k, "stride": s, "dilation": d,
                "weights": random_words(self.rng, o, k, self.channels[x]),
            }
            for x, o, k, s, d in slices
        ]  # fmt: skip
        fields = NONE | {"scale": self.normal(c) / 8, "bias": self.normal(c), "add": add, "then": then}
        if then >= 0:
            fields |= {"then_scale": self.normal(c), "then_bias": self.normal(c)} | self.act(c, "then_")
        return self._made(c, "binary", slices=made, **(fields | (self.act(c) if act else {})))

    def sum(self, summands, act=True, norm=True) -> int:
        """summands: (in, up)."""
        c = self.channels[summands[0][0]]
        fields = {"slope": None, "lift": None, "scale": None, "bias": None} | (self.act(c) if act else {})
        fields |= {"scale": self.normal(c), "bias": self.normal(c)} if norm else {}
        return self._made(c, "sum", summands=[{"in": x, "up": up} for x, up in summands], **fields)

    def shortcut(self, x, c, stride) -> int:
        return self._made(c, "shortcut", **{"in": x}, channels=c, stride=stride)

    def concat(self, *xs) -> int:
        return self._made(sum(self.channels[x] for x in xs), "concat", parts=[{"in": x} for x in xs])

    def maxpool(self, x, kernel, stride) -> int:
        return self._made(self.channels[x], "maxpool", **{"in": x}, kernel=kernel, stride=stride)

    def gate(self, x, hidden) -> int:
        c = self.channels[x]
        fields = {"weights": self.normal(hidden, c), "bias": self.normal(hidden)}
        fields |= {"weights2": self.normal(c, hidden), "bias2": self.normal(c)}
        gains = self._made(c, "means", **{"in": x}, hidden=hidden, **fields)
        return self._made(c, "scale", **{"in": x}, gains=gains)

    def output(self, *xs) -> Packed:
        for x in xs:
            self.packed.add("output", **{"in": x})
        return self.packed


def everything(seed: int = 0, c: int = 16, gate: bool = False) -> Packed:
    """Every operation (the gate on demand), slices that meet inside and between groups, more channels and fewer; for
    inputs of any size that is a multiple of 8."""
    b = Builder(seed, 3)
    x = b.real(b.maxpool(b.real(0, c, kernel=7), 3, 2), c, stride=2, act=False)
    y = b.binary([(x, c // 2, 3, 1, 1), (x, c - c // 2, 3, 1, 2)], add=x)
    y = b.binary([(y, c, 3, 1, 1)], add=y)
    wide = b.binary([(y, 4 * c, 1, 1, 1)], add=y if c % 16 == 0 else -1)
    again = b.binary([(wide, 4 * c, 1, 1, 1)], add=wide, then=wide)
    less = b.binary([(again, c, 1, 1, 1)], add=b.shortcut(again, c, 1), act=False)
    odd = b.shortcut(again, 3 * c - 1, 1)
    half = b.binary([(less, 2 * c, 3, 2, 1)], add=b.shortcut(less, 2 * c, 2))
    low = b.binary([(half, c, 1, 1, 1)], add=b.shortcut(half, c, 1), act=False)
    total = b.sum([(y, 0), (less, 0), (low, 1)])
    parts = b.concat(b.binary([(b.sum([(total, 0)], act=False), c // 2, 3, 1, 1)], act=False), total, odd)
    last = b.real(parts, c, kernel=1, add=total)
    last = b.binary([(last, 7, 5, 1, 1), (half_up(b, half), 9, 1, 1, 1), (last, 3, 3, 1, 1)])
    outs = [b.real(last, 5, kernel=1, act=False), b.real(half, 6, kernel=3, dilation=2, act=False), odd]
    return b.output(*outs, *([b.gate(less, 3)] if gate else []))


def half_up(b: Builder, x: int) -> int:
    """A map at its double size."""
    return b.sum([(x, 1)], act=False, norm=False)


def write_case(path: Path, packed: Packed, image) -> None:
    """See native/tools/case.h."""
    program, (table, data) = packed.program(), packed.data()
    head = struct.pack("<5q", len(program), len(table), data.size, *image.shape[1:])
    body = np.array(program, "<i4").tobytes() + table.astype("<i8").tobytes() + data.tobytes()
    path.write_bytes(head + body + np.ascontiguousarray(image, "<f4").tobytes())


def picture(h: int, w: int, seed: int = 0):
    return np.random.default_rng(seed).standard_normal((3, h, w), np.float32)


def cases() -> dict[str, tuple[Packed, tuple[int, int]]]:
    """Name -> network and size of its input."""
    return {
        "narrow": (everything(0, 16, gate=True), (16, 24)),
        "wide": (everything(1, 32), (24, 16)),
        "odd": (everything(2, 13), (8, 40)),
        "between": (everything(3, 48), (16, 16)),
    }


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for name, (packed, size) in cases().items():
        write_case(folder / f"{name}.case", packed, picture(*size))
