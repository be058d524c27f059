"""Wide depthwise convolutions in XNNPACK, whole and as row strips: python benchmarks/strips.py --runtime litert

Writes a bundled model for LiteRT or ExecuTorch twice, once without the split of `runtimes/_strips.py`, times both in
turn on the same photograph, after a warm-up; LiteRT with one thread. Medians and their ratio.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

from edgepose.folder import entry
from edgepose.origin import source
from edgepose.runtimes import _strips
from edgepose.sources import read_image

PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "s2d_100.jpg"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", default="litert", choices=("litert", "executorch"))
    parser.add_argument("--model", default="litepose-xs", help="bundled name or model folder")
    parser.add_argument("--rounds", type=int, default=20)
    args = parser.parse_args()
    engine = entry("edgepose.runtimes", args.runtime)
    given = source(args.model, (256, 256))
    codec: Any = replace(given.card.codec, canvas=(256, 256), scales=(1.0,), flip=False)  # type: ignore[type-var]
    card = replace(given.card, codec=codec)
    batches, _ = codec.encode(read_image(PHOTO))
    with tempfile.TemporaryDirectory() as folder:
        runs = {}
        for name in ("whole", "strips"):
            path = Path(folder) / f"{name}.{engine.SUFFIX}"
            with mock.patch.object(_strips, "TAPS", 10**6 if name == "whole" else _strips.TAPS):
                engine.write(card, given.network, path)
            runs[name] = engine.read(card, path, threads=1)
        times: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(args.rounds + 3):
            for name, run in runs.items():
                begin = time.perf_counter()
                run(batches[0])
                if turn >= 3:
                    times[name].append((time.perf_counter() - begin) * 1e3)
    medians = {name: statistics.median(found) for name, found in times.items()}
    for name, found in medians.items():
        print(f"{args.runtime} {args.model} 256x256, {name:7} {found:8.1f} ms")
    ratios = [a / b for a, b in zip(times["whole"], times["strips"], strict=True)]
    print(f"strips are {statistics.median(ratios):.2f} times as fast (median of ratios, {args.rounds} rounds)")


if __name__ == "__main__":
    main()
