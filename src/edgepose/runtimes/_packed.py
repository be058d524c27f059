"""Packed networks: a list of operations and their arrays, and the file they are kept in (`model.edgebin`).

The file: 32 bytes (magic, format, CRC-32 of the rest, length of the JSON, length of the data), the JSON, and from the
next multiple of 64 bytes on the arrays, each at a multiple of 64. The JSON names the operations, the arrays (kind,
offset, count). Everything is little-endian. native/edgebin.h says what operations there are.
"""

from __future__ import annotations

import json
import os
import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAGIC, FORMAT = b"edgebin\n", 1
HEADER = struct.Struct("<8sIIQQ")
ALIGN = 64
KINDS = {"f4": np.dtype("<f4"), "f2": np.dtype("<f2"), "u4": np.dtype("<u4")}
THEN = ("then", "then_scale", "then_bias", "then_slope", "then_lift")
WINDOW = ("channels", "kernel", "stride", "dilation", "weights")
# operation -> its number, its fields, and of the list in it: its name, the fields of an item
LAYOUT: dict[str, tuple[int, tuple[str, ...], str, tuple[str, ...]]] = {
    "input": (0, ("channels",), "", ()),
    "real": (1, ("in", *WINDOW, "bias", "add", "slope", "lift", *THEN), "", ()),
    "binary": (2, ("add", "slope", "lift", "scale", "bias", *THEN), "slices", ("in", "least", *WINDOW)),
    "sum": (3, ("slope", "lift", "scale", "bias"), "summands", ("in", "up")),
    "shortcut": (4, ("in", "channels", "stride"), "", ()),
    "concat": (5, (), "parts", ("in",)),
    "means": (6, ("in", "hidden", "weights", "bias", "weights2", "bias2"), "", ()),
    "scale": (7, ("in", "gains"), "", ()),
    "maxpool": (8, ("in", "kernel", "stride"), "", ()),
    "output": (9, ("in",), "", ()),
}
ARRAYS = {
    "weights",
    "weights2",
    "bias",
    "bias2",
    "slope",
    "lift",
    "scale",
    "least",
    *THEN[1:],
}  # fields that name an array


@dataclass
class Packed:
    """A network under construction, or as it was read: operation i makes value i."""

    ops: list[dict[str, Any]] = field(default_factory=list)
    arrays: list[NDArray[Any]] = field(default_factory=list)

    def add(self, op: str, **fields: Any) -> int:
        """Append an operation; array fields may be numpy arrays (or None). Returns the number of the value it makes."""
        made = {"op": op, **{k: self._array(v) if k in ARRAYS else v for k, v in fields.items()}}
        if LAYOUT[op][2] in made:
            items = made[LAYOUT[op][2]]
            made[LAYOUT[op][2]] = [{k: self._array(v) if k in ARRAYS else v for k, v in item.items()} for item in items]
        self.ops.append(made)
        return len(self.ops) - 1

    def _array(self, values: Any) -> int:
        if values is None or isinstance(values, int):
            return -1 if values is None else values
        values = np.asarray(values)
        kind = np.uint32 if values.dtype == np.uint32 else np.float16 if values.dtype == np.float16 else np.float32
        self.arrays.append(np.ascontiguousarray(values, kind).ravel())
        return len(self.arrays) - 1

    def program(self) -> list[int]:
        """The operations as the library reads them; `ValueError` names what an operation lacks."""
        code: list[int] = []
        for i, op in enumerate(self.ops):
            name = op.get("op") if isinstance(op, dict) else None
            if name not in LAYOUT:
                raise ValueError(f"operation {i} is {name!r}, which is not known")
            number, fields, many, of_each = LAYOUT[name]
            code += [number, *(_number(op, f, i) for f in fields)]
            if many:
                items = op.get(many)
                if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
                    raise ValueError(f"operation {i} ({name}) has no list of {many}")
                code += [len(items), *(_number(item, f, i) for item in items for f in of_each)]
        return code

    def data(self) -> tuple[NDArray[np.int64], NDArray[np.uint8]]:
        """Where each array lies, (offset, count of 4-byte items), and all arrays in one; float16 becomes float32."""
        wide = [a.astype("<f4") if a.dtype == np.float16 else a for a in self.arrays]
        table, size = [], 0
        for a in wide:
            table.append((size, a.size))
            size += -(-a.nbytes // ALIGN) * ALIGN
        data = np.zeros(size + ALIGN, np.uint8)
        data = data[-data.ctypes.data % ALIGN :][:size]
        for a, (offset, _) in zip(wide, table, strict=True):
            data[offset : offset + a.nbytes] = a.view(np.uint8)
        return np.array(table, np.int64).reshape(-1, 2), data


def _number(op: dict[str, Any], name: str, i: int) -> int:
    value = op.get(name)
    if type(value) is not int or not -(2**31) <= value < 2**31:
        raise ValueError(f"operation {i}: {name} must be a whole number, got {value!r}")
    return value


def save(packed: Packed, path: str | Path) -> None:
    """Write the file, whole or not at all."""
    table, blocks, size = [], [], 0
    for a in packed.arrays:
        kind = next(k for k, d in KINDS.items() if d == a.dtype)
        table.append([kind, size, a.size])
        blocks.append(a.astype(KINDS[kind]).tobytes() + bytes(-a.nbytes % ALIGN))
        size += len(blocks[-1])
    text = json.dumps({"ops": packed.ops, "arrays": table}, separators=(",", ":")).encode()
    text += b" " * (-(HEADER.size + len(text)) % ALIGN)
    body = text + b"".join(blocks)
    path = Path(path)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(HEADER.pack(MAGIC, FORMAT, zlib.crc32(body), len(text), size) + body)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def load(path: str | Path) -> Packed:
    """Read a file that `save` wrote; `ValueError` in one line if it is another file, cut off or damaged."""
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    if len(raw) < HEADER.size or raw[: len(MAGIC)] != MAGIC:
        raise ValueError(f"cannot use {path}: it is not an edgebin file")
    _, number, checksum, text, size = HEADER.unpack_from(raw)
    if number != FORMAT:
        raise ValueError(f"cannot use {path}: its format is {number}, this edgepose reads {FORMAT}")
    if len(raw) != HEADER.size + text + size:
        raise ValueError(f"cannot use {path}: it has {len(raw)} bytes and should have {HEADER.size + text + size}")
    if zlib.crc32(memoryview(raw)[HEADER.size :]) != checksum:
        raise ValueError(f"cannot use {path}: it is damaged (its checksum is wrong)")
    try:
        return _parse(raw[HEADER.size : HEADER.size + text], memoryview(raw)[HEADER.size + text :])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:200]}") from error


def _parse(text: bytes, data: memoryview) -> Packed:
    values = json.loads(text)
    if not isinstance(values, dict) or not isinstance(values.get("ops"), list):
        raise ValueError("it lists no operations")
    packed = Packed(values["ops"])
    for entry in values["arrays"]:
        kind, offset, count = entry
        if kind not in KINDS or type(offset) is not int or type(count) is not int:
            raise ValueError(f"an array cannot be {entry!r}")
        if offset < 0 or offset % 4 or count < 0 or offset + count * KINDS[kind].itemsize > len(data):
            raise ValueError(f"an array lies outside the file: {entry!r}")
        packed.arrays.append(np.frombuffer(data, KINDS[kind], count, offset))
    packed.program()
    return packed
