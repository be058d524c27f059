"""From a photograph on disk to poses, against the bare forward pass of the same graph: python benchmarks/end_to_end.py

One thread, flip test off, a real photograph at 640x480. Both are timed in turn, after a warm-up, so that whatever else
the machine does falls on both; medians are printed. The goal is a ratio of at most 1.3. On a busy machine, `--cpu`
counts the processor time of this process in place of the time that passes.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and OpenCV start their threads

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import onnxruntime

import edgepose
from edgepose.sources import read_image
from edgepose.weights import find

GOAL = 1.3
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
    predictor = edgepose.load(args.model, runtime="onnx", threads=1, flip=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = str(find(args.model) / predictor.card.weights["onnx"])
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    with tempfile.TemporaryDirectory() as folder:
        photo = photograph(args.photo, Path(folder))
        batches, _ = predictor.codec.encode(read_image(photo))
        feeds = [{session.get_inputs()[0].name: batch} for batch in batches]
        bare: list[float] = []
        whole: list[float] = []
        steps: dict[str, list[float]] = {"decode file": [], "encode": [], "network": [], "decode poses": []}
        for turn in range(args.rounds + 10):
            if turn == 10:  # warm
                for times in (bare, whole, *steps.values()):
                    times.clear()
            measure(bare, lambda: [session.run(None, feed) for feed in feeds])
            poses = measure(whole, predictor, photo)
            image = measure(steps["decode file"], read_image, photo)
            inputs, warps = measure(steps["encode"], predictor.codec.encode, image)
            maps = measure(steps["network"], lambda inputs=inputs: [predictor.run(batch) for batch in inputs])
            measure(steps["decode poses"], predictor.codec.decode, maps, warps)

    sizes = ", ".join(f"{batch.shape[3]}x{batch.shape[2]}" for batch in batches)
    clock = "processor time" if args.cpu else "wall time"
    print(f"{args.model}: 640x480 JPEG, network input {sizes}, one thread, no flip, {clock}; {len(poses)} people found")
    for name, times in steps.items():
        print(f"  {name:14} {statistics.median(times):7.2f} ms")
    forward, total = statistics.median(bare), statistics.median(whole)
    print(f"file to poses    {total:7.2f} ms")
    print(f"bare forward     {forward:7.2f} ms")
    ratio = statistics.median(a / b for a, b in zip(whole, bare, strict=True))
    print(f"ratio of medians {total / forward:7.3f}, median of ratios {ratio:.3f}; goal {GOAL}")


if __name__ == "__main__":
    main()
