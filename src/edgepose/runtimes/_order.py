"""Operations that name each other, before they are a `Packed` network, where they have numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.runtimes._packed import LAYOUT, Packed

Array = NDArray[Any]


class Op(dict[str, Any]):
    """An operation as in `Packed`, with arrays and operations in place of their numbers; equal to itself alone."""

    __eq__ = object.__eq__
    __hash__ = object.__hash__  # type: ignore[assignment]


class Value:
    """A map: what an operation makes, repeated 2^up times in each direction."""

    def __init__(self, op: Op, up: int = 0) -> None:
        self.op, self.up = op, up


class Signs:
    """sign(value + shift)."""

    def __init__(self, value: Value, shift: Array) -> None:
        self.value, self.shift = value, shift


def numbered(ends: list[Op]) -> Packed:
    """What `ends` (the input, then the outputs) need, each operation behind those it reads, with numbers for operations
    and arrays."""
    order: list[Op] = []
    stack = list(reversed(ends))
    placed: set[int] = set()
    while stack:
        missing = [r for r in _reads(stack[-1]) if id(r) not in placed]
        if missing:
            stack += reversed(missing)
            continue
        op = stack.pop()
        if id(op) not in placed:
            placed.add(id(op))
            order.append(op)
    numbers = {id(op): i for i, op in enumerate(order)}
    packed = Packed()

    def plain(fields: dict[str, Any]) -> dict[str, Any]:
        return {k: numbers[id(v)] if isinstance(v, Op) else v for k, v in fields.items()}

    for op in order:
        fields = plain({k: v for k, v in op.items() if k != "op"})
        many = LAYOUT[op["op"]][2]
        if many:
            fields[many] = [plain(item) for item in fields[many]]
        fields |= {k: -1 for k in ("add", "then") if k in fields and fields[k] is None}
        packed.add(op["op"], **fields)
    return packed


def _reads(op: Op) -> list[Op]:
    many = LAYOUT[op["op"]][2]
    return [v for fields in (op, *op.get(many, ())) for v in fields.values() if isinstance(v, Op)]


def words(bits: Array) -> NDArray[np.uint32]:
    """Bits (..., channels) as words (..., ceil(channels / 32)) uint32, the first channel lowest."""
    *shape, c = bits.shape
    room = np.zeros((*shape, -(-c // 32) * 32), bool)
    room[..., :c] = bits
    return np.packbits(room, -1, bitorder="little").view("<u4").astype(np.uint32)


def repeats(a: int, b: int) -> bool:
    """Whether the library repeats `a` channels to `b` while it adds them."""
    return b % a == 0 and a % 16 == 0
