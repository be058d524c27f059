"""Runtimes run networks: one file an engine, each with the same names.

SUFFIX: of the weights file. READS: modules it needs to run one.
write(card, network, path, half): save a torch network, whole or not at all; `half` stores weights as float16.
read(card, path, device, threads) -> Run: a function from a batch to maps; float16 weights are used as float32.
Engines are imported inside `write` and `read`, so the core needs none but the one it uses.
"""

from __future__ import annotations

import importlib
import os


def need(extra: str, *modules: str) -> None:
    """`ValueError` with the pip line for `extra` if one of `modules` cannot be imported."""
    for module in modules:
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(f'this needs {module}: pip install "edgepose[{extra}]" ({error})') from error


def cpus() -> int:
    """CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
