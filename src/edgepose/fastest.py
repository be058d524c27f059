"""Which of a model's engines is fastest on this machine: measured once, side by side, and remembered."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import statistics
import sys
from pathlib import Path
from typing import Any

from edgepose.candidate import Candidate, Worker
from edgepose.card import Card
from edgepose.folder import entry, names
from edgepose.results import write_whole
from edgepose.runtimes import cpus
from edgepose.sources import photographs

ROUNDS = 7  # of one picture each, after a warm-up
FACTS = {"model", "threads", "ms", "engine"}
CLEAR = 0.95  # of onnx' time that another engine must stay below to be preferred: less is noise


def cache() -> Path:
    """The file that remembers, in the user's folder for such things; `EDGEPOSE_CACHE` names another folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = os.environ.get("EDGEPOSE_CACHE") or (
        Path(os.environ["LOCALAPPDATA"]) / "edgepose" if os.name == "nt" else Path(home) / "edgepose"
    )
    return Path(folder) / "engines.json"


def usable(card: Card) -> list[str]:
    """The engines that are installed and have weights here; onnx first. PyTorch counts only where it is alone: it takes
    seconds to start and never came first (docs/speed.md)."""
    known = [name for name in card.weights if name in names("edgepose.runtimes")]
    ready = [name for name in known if installed(name)]
    return sorted([name for name in ready if name != "pytorch"] or ready, key=lambda name: name != "onnx")


def installed(runtime: str) -> bool:
    """Whether the modules that an engine needs can be found."""
    needed: tuple[str, ...] = entry("edgepose.runtimes", runtime).READS
    return all(_spec(module) is not None for module in needed)


def _spec(module: str) -> Any:
    """Where the package of a module is, or None; it is not imported."""
    try:
        return importlib.util.find_spec(module.partition(".")[0])
    except ImportError:
        return None


def choose(folder: Path, card: Card, threads: int) -> str:
    """The engine of a model folder for `threads` CPU threads: the only usable one, or the fastest.

    Measured where nothing is remembered of these weights, engine versions and this machine: a second or two, the first
    time. The first engine listed where none is usable (it will say what it lacks), onnx where measuring fails.
    """
    engines = usable(card)
    if len(engines) < 2:
        return (engines or sorted(card.weights, key=lambda name: name != "onnx"))[0]
    key = _key(folder, card, engines, threads)
    known = remembered()
    if key not in known:
        times = measure(folder, engines, threads)
        entry_ = {"model": card.model, "threads": threads, "ms": times, "engine": _best(times, engines[0])}
        known = {**remembered(), key: entry_}
        try:
            cache().parent.mkdir(parents=True, exist_ok=True)
            write_whole(cache(), json.dumps(known, indent=1).encode())
        except OSError:
            pass  # measured again next time
    engine = known[key]["engine"]
    return engine if engine in engines else engines[0]


def remembered() -> dict[str, Any]:
    """What is remembered: key -> {"model", "threads", "ms" of each engine, "engine"}."""
    try:
        known = json.loads(cache().read_bytes())
    except (OSError, ValueError):
        return {}
    good = isinstance(known, dict) and all(isinstance(v, dict) and v.keys() >= FACTS for v in known.values())
    return known if good else {}


def lines() -> list[str]:
    """What is remembered, a line for each model and number of threads."""
    found = []
    for row in remembered().values():
        times = ", ".join(f"{engine} {ms:.1f} ms" for engine, ms in sorted(row["ms"].items(), key=lambda item: item[1]))
        found.append(f"{row['model']}, {row['threads']} threads: {row['engine']} ({times})")
    return found or ["onnx; measured when a model with weights for several installed engines is first used"]


def measure(folder: Path, engines: list[str], threads: int) -> dict[str, float]:
    """Median milliseconds of the network for one photograph in each engine, in turn; those that fail are absent."""
    picture, times, workers = str(photographs()[-1]), dict[str, list[float]](), dict[str, Worker]()
    try:
        for engine in engines:
            workers[engine] = Worker.of(Candidate(str(folder), engine, threads, plain=True, alone=True))
        for turn in range(ROUNDS + 2):
            for engine, worker in list(workers.items()):
                try:
                    ms = json.loads(worker.ask(picture)[0])["network"]
                except ValueError:
                    workers.pop(engine).__exit__()
                    continue
                if turn > 1:  # warm
                    times.setdefault(engine, []).append(ms)
    finally:
        for worker in workers.values():
            worker.__exit__()
    return {engine: round(statistics.median(ms), 3) for engine, ms in times.items()}


def _best(times: dict[str, float], first: str) -> str:
    if not times:
        return first
    best = min(times, key=times.__getitem__)
    return first if first in times and times[best] > CLEAR * times[first] else best


def _key(folder: Path, card: Card, engines: list[str], threads: int) -> str:
    """Of the machine, the engines' packages (when installed), the weights (size, time of change) and the threads."""
    facts: list[Any] = [platform.node(), processor(), cpus(), sys.version_info[:2], threads]
    for module in sorted({module for name in engines for module in entry("edgepose.runtimes", name).READS}):
        spec = _spec(module)
        origin = spec.origin if spec is not None else None
        facts.append([module, os.stat(origin).st_mtime_ns if origin and os.path.exists(origin) else None])
    for engine in engines:
        path = folder / Path(card.weights[engine]).name
        facts.append([engine, path.stat().st_size, path.stat().st_mtime_ns] if path.exists() else [engine])
    return hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:20]


def processor() -> str:
    """The processor's name, as the system calls it."""
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.lower().startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
