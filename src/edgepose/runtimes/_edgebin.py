"""The library of `native/` by way of ctypes: packed binary convolutions, and networks made of them."""

from __future__ import annotations

import ctypes
import functools
import os
from collections.abc import Sequence
from ctypes import POINTER, c_char_p, c_double, c_int, c_int32, c_int64, c_void_p
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose import runtimes

FILE, VERSION = "_libedgebin.so", 1
BUILD = Path(__file__).parents[3] / "build" / "native"  # where CMake alone puts it in a clone
GET = (
    'it is built when edgepose is installed where a C++ compiler is: pip install --force-reinstall --no-deps "edgepose"'
)
FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "version": (c_int, []),
    "paths": (c_char_p, []),
    "open": (
        c_void_p,
        [POINTER(c_int32), c_int64, POINTER(c_int64), c_int64, c_void_p, c_int64]
        + [c_int, c_int, c_char_p, c_int, c_int, c_char_p, c_int64],
    ),
    "path": (c_char_p, [c_void_p]),
    "memory": (c_int64, [c_void_p]),
    "operations": (c_int, [c_void_p]),
    "outputs": (c_int, [c_void_p]),
    "shape": (None, [c_void_p, c_int, POINTER(c_int32)]),
    "run": (None, [c_void_p, c_void_p, POINTER(c_void_p)]),
    "profile": (None, [c_void_p, c_void_p, POINTER(c_void_p), POINTER(c_double)]),
    "close": (None, [c_void_p]),
    "count": (c_int, [c_char_p, c_void_p, c_int, c_int, c_int, c_void_p, c_int, c_int, c_int, c_int, c_void_p]),
}


@functools.cache
def library() -> ctypes.CDLL:
    """The library: that of $EDGEPOSE_EDGEBIN, else the installed one, else the one in build/native of a clone.

    `ValueError` says in one line how to get it.
    """
    named = os.environ.get("EDGEPOSE_EDGEBIN")
    places = [Path(named)] if named else [*(Path(p) / FILE for p in runtimes.__path__), BUILD / FILE]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise ValueError(f"the runtime binary needs its library{f' ({named})' if named else ''}; {GET}")
    try:
        lib = ctypes.CDLL(str(found))
        for name, (result, arguments) in FUNCTIONS.items():
            function = getattr(lib, f"edgebin_{name}")
            function.restype, function.argtypes = result, arguments
    except (OSError, AttributeError) as error:
        raise ValueError(f"cannot use {found}: {error}; {GET}") from error
    if lib.edgebin_version() != VERSION:
        raise ValueError(f"{found} has version {lib.edgebin_version()}, not {VERSION}; {GET}")
    return lib


def paths() -> list[str]:
    """Code paths that this processor runs, fastest first."""
    return library().edgebin_paths().decode().split()


class Net:
    """A network for inputs of one size; `run(image)`. See native/edgebin.h for `program` and `arrays`.

    path: of `paths()`, by default the fastest, or what $EDGEPOSE_BINARY_PATH names. apart: what is independent runs
    side by side; else one operation at a time on all threads. `ValueError` says what is wrong with the program.
    """

    def __init__(
        self, program: Sequence[int], arrays: NDArray[np.int64], data: NDArray[np.uint8], size: tuple[int, int],
        threads: int = 1, path: str | None = None, apart: bool = True,
    ) -> None:  # fmt: skip
        self.lib = library()
        code = np.asarray(program, np.int32)
        table = np.ascontiguousarray(arrays, np.int64).reshape(-1, 2)
        assert data.dtype == np.uint8 and data.flags.c_contiguous and data.ctypes.data % 4 == 0
        path = path or os.environ.get("EDGEPOSE_BINARY_PATH")
        error = ctypes.create_string_buffer(300)
        self.handle = self.lib.edgebin_open(
            code.ctypes.data_as(POINTER(c_int32)), len(code), table.ctypes.data_as(POINTER(c_int64)), len(table),
            data.ctypes.data, data.size, *size, path.encode() if path else None, threads, apart, error, len(error),
        )  # fmt: skip
        if not self.handle:
            raise ValueError(error.value.decode(errors="replace"))
        self.size = size
        self.channels = int(code[1])
        self.shapes: list[tuple[int, ...]] = []
        for i in range(self.lib.edgebin_outputs(self.handle)):
            chw = (c_int32 * 3)()
            self.lib.edgebin_shape(self.handle, i, chw)
            self.shapes.append(tuple(chw))

    @property
    def path(self) -> str:
        """The code path in use."""
        return self.lib.edgebin_path(self.handle).decode()

    @property
    def memory(self) -> int:
        """Bytes of maps and weights."""
        return self.lib.edgebin_memory(self.handle)

    def run(self, image: NDArray[np.float32], outputs: Sequence[NDArray[np.float32]] | None = None) -> list[NDArray]:
        """The outputs (c, h, w) of an image (channels, h, w), into `outputs` where they are given."""
        image = np.ascontiguousarray(image, np.float32)
        assert image.shape == (self.channels, *self.size), image.shape
        made = [np.empty(shape, np.float32) for shape in self.shapes] if outputs is None else list(outputs)
        assert all(m.flags.c_contiguous and m.shape == s for m, s in zip(made, self.shapes, strict=True))
        self.lib.edgebin_run(self.handle, image.ctypes.data, (c_void_p * len(made))(*(m.ctypes.data for m in made)))
        return made

    def profile(self, image: NDArray[np.float32]) -> NDArray[np.float64]:
        """Microseconds of every operation of the program, run alone on one thread."""
        image = np.ascontiguousarray(image, np.float32)
        assert image.shape == (self.channels, *self.size), image.shape
        made = [np.empty(shape, np.float32) for shape in self.shapes]
        times = np.zeros(self.lib.edgebin_operations(self.handle))
        places = (c_void_p * len(made))(*(m.ctypes.data for m in made))
        self.lib.edgebin_profile(self.handle, image.ctypes.data, places, times.ctypes.data_as(POINTER(c_double)))
        return times

    def __del__(self) -> None:
        if getattr(self, "handle", None):
            self.lib.edgebin_close(self.handle)


def count(
    path: str, words: NDArray[np.uint32], channels: int, weights: NDArray[np.uint32], stride: int, dilation: int
) -> NDArray[np.int32]:
    """Differing bits - floor(bits / 2) of one binary convolution: words (h, w, words of `channels`), weights (out,
    kernel, kernel, words) -> (h', w', out)."""
    h, w, _ = words.shape
    out, kernel = weights.shape[:2]
    counts = np.empty(((h - 1) // stride + 1, (w - 1) // stride + 1, out), np.int32)
    words, weights = np.ascontiguousarray(words, np.uint32), np.ascontiguousarray(weights, np.uint32)
    failed = library().edgebin_count(
        path.encode(), words.ctypes.data, h, w, channels, weights.ctypes.data, out, kernel, stride, dilation,
        counts.ctypes.data,
    )  # fmt: skip
    assert not failed
    return counts
