"""Binary networks on packed bits: one file for every size, run by the C++ library of `native/` on any CPU.

The library chooses its code path when it is loaded (AVX-512, AVX2, NEON or portable); $EDGEPOSE_BINARY_PATH names
another. Writing needs torch; reading needs only the library, which comes with the wheel.
"""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import _edgebin, _packed, cpus, need

SUFFIX = "edgebin"
EXTRA, READS, WRITES = "train", (), ("torch",)
FREE, LAYOUT, PEAKS = True, "nchw", False


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Pack a torch network with binary convolutions; `half` stores the weights of its real ones as float16.

    `ValueError` names a layer that packed networks do not have, or says that the network is not binary.
    """
    need(EXTRA, *WRITES)
    import copy

    from edgepose.runtimes._walk import pack

    packed = pack(copy.deepcopy(network).cpu().eval())
    if half:
        for op in packed.ops:
            if op["op"] == "real":
                packed.arrays[op["weights"]] = packed.arrays[op["weights"]].astype(np.float16)
    _packed.save(packed, path)


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """The packed network in `path` on this CPU; `threads` is all CPUs this process may use unless given.

    `ValueError` for an unusable file, another device, or where the library is missing.
    """
    if device != "cpu":
        raise ValueError(f"no device {device!r} for binary: it is cpu")
    _edgebin.library()
    packed = _packed.load(path)
    program, (table, data) = packed.program(), packed.data()
    count = threads or cpus()
    nets: dict[tuple[int, int], _edgebin.Net] = {}
    lock = threading.Lock()

    def run(batch: Batch) -> Maps:
        size = batch.shape[2:]
        with lock:
            try:
                if size not in nets:
                    nets[size] = _edgebin.Net(program, table, data, size, count)
            except ValueError as error:
                raise ValueError(f"the network in {path} failed on a batch {batch.shape}: {error}") from error
        net = nets[size]
        if batch.shape[1] != net.channels:
            raise ValueError(f"the network failed on a batch {batch.shape}: it takes {net.channels} channels")
        maps = [np.empty((len(batch), *shape), np.float32) for shape in net.shapes]
        for i, image in enumerate(batch):
            net.run(image, [m[i] for m in maps])
        return maps

    return run


def state() -> str:
    """What this installation can do with such files, in one line."""
    try:
        return f"code path {_edgebin.paths()[0]}"
    except ValueError as error:
        return f"absent: {error}"
