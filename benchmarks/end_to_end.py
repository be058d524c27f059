"""From a photograph on disk to poses, against the bare forward pass of the same graph: python benchmarks/end_to_end.py

One thread, no flip, one scale, a real photograph at 640x480. All are timed in turn, after a warm-up, so that whatever
else the machine does falls on all; medians are printed. Goals: file to poses at most 1.25 times the bare forward pass,
the engine behind its contract at most 1.05 times. `--model litepose-s` and other networks without bundled weights get
random ones: their time is right, and they find nobody. `--cpu` counts processor time in place of the time that passes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and OpenCV start their threads

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import onnxruntime

import edgepose
from edgepose.sources import read_image
from edgepose.weights import bundled, find

GOAL, BARE = 1.25, 1.05
PHOTO = Path(__file__).parents[1] / "examples" / "photos" / "s2d_100.jpg"


def photograph(source: Path, folder: Path) -> Path:
    """A 640x480 JPEG of the middle of `source`."""
    image = read_image(source)
    height, width = image.shape[:2]
    zoom = max(640 / width, 480 / height)
    image = cv2.resize(image, (round(width * zoom), round(height * zoom)), interpolation=cv2.INTER_AREA)
    top, left = (image.shape[0] - 480) // 2, (image.shape[1] - 640) // 2
    image = image[top : top + 480, left : left + 640]
    cv2.imwrite(str(folder / "photo.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 90])
    return folder / "photo.jpg"


def timed(times: list[float], function: Callable[..., Any], *args: Any, clock: Callable[[], float]) -> Any:
    """Call `function` and note the milliseconds."""
    begin = clock()
    result = function(*args)
    times.append((clock() - begin) * 1e3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="litepose-xs", help="bundled name or model folder with onnx weights")
    parser.add_argument("--photo", type=Path, default=PHOTO)
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--cpu", action="store_true", help="count processor time")
    args = parser.parse_args()
    measure = partial(timed, clock=time.process_time if args.cpu else time.perf_counter)
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        place = find(args.model) if args.model in bundled() or Path(args.model).is_dir() else random(args.model, folder)
        compare(args, place, measure)


def random(model: str, folder: str) -> Path:
    """A model folder of the architecture `model` with random weights."""
    from edgepose import models, save

    card = models.card(model)
    save(folder, card, models.build(card), ("onnx",))
    return Path(folder)


def compare(args: argparse.Namespace, place: Path, measure: Callable[..., Any]) -> None:
    """Time and print."""
    predictor = edgepose.load(place, threads=1, flip=False)
    predictor.codec = replace(predictor.codec, scales=(1.0,))  # type: ignore[type-var]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(place / predictor.card.weights["onnx"])
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    with tempfile.TemporaryDirectory() as folder:
        photo = photograph(args.photo, Path(folder))
        batches, _ = predictor.codec.encode(read_image(photo))
        feeds = [{session.get_inputs()[0].name: batch} for batch in batches]
        bare: list[float] = []
        engine: list[float] = []
        whole: list[float] = []
        steps: dict[str, list[float]] = {"decode file": [], "encode": [], "network": [], "decode poses": []}
        for turn in range(args.rounds + 10):
            if turn == 10:  # warm
                for times in (bare, engine, whole, *steps.values()):
                    times.clear()
            pair = [(bare, lambda: [session.run(None, feed) for feed in feeds])]
            pair.append((engine, lambda: [predictor.run(batch) for batch in batches]))
            for times, function in pair[:: 1 if turn % 2 else -1]:
                measure(times, function)
            poses = measure(whole, predictor, photo)
            image = measure(steps["decode file"], read_image, photo)
            inputs, warps = measure(steps["encode"], predictor.codec.encode, image)
            maps = measure(steps["network"], lambda inputs=inputs: [predictor.run(batch) for batch in inputs])
            measure(steps["decode poses"], predictor.codec.decode, maps, warps)

    sizes = ", ".join(f"{batch.shape[3]}x{batch.shape[2]}" for batch in batches)
    clock = "processor time" if args.cpu else "wall time"
    how = f"network input {sizes}, {predictor.runtime}, one thread, no flip, {clock}"
    print(f"{args.model}: 640x480 JPEG, {how}; {len(poses)} people found")
    for name, times in steps.items():
        print(f"  {name:14} {statistics.median(times):7.2f} ms")
    forward, total = statistics.median(bare), statistics.median(whole)
    print(f"file to poses    {total:7.2f} ms")
    print(f"bare forward     {forward:7.2f} ms")
    ratio = statistics.median(a / b for a, b in zip(whole, bare, strict=True))
    print(f"ratio of medians {total / forward:7.3f}, median of ratios {ratio:.3f}; goal {GOAL}")
    ratio = statistics.median(a / b for a, b in zip(engine, bare, strict=True))
    print(
        f"engine           {statistics.median(engine):7.2f} ms, median of ratios to the bare {ratio:.3f}; goal {BARE}"
    )


if __name__ == "__main__":
    main()
