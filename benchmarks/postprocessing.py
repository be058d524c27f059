"""Maps to people against the network that makes the maps: python benchmarks/postprocessing.py

Maps of crowds are made up at the sizes of the network's own (benchmarks/grouping.py), so that the number of people is
known; `BottomUp.decode` turns them into poses: upsampling, peaks, grouping, refinement. In turn with it the network
(random weights, its default engine) runs on a photograph of the same input. One thread, no flip.
Goals: 10 % of the network for 10 people; peaks and grouping of 20 people in 3 ms on 224 and 7 ms on 448 pixel maps.
`--cpu` counts processor time.
"""

from __future__ import annotations

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before numpy and OpenCV start their threads

import statistics
import tempfile
import time
from typing import Any

import cv2
import numpy as np
import tyro
from grouping import maps, resized

import edgepose
from edgepose import models
from edgepose.blocktable import picture
from edgepose.codecs.bottomup import BottomUp
from edgepose.codecs.grouping import find_peaks, match
from edgepose.codecs.tagmaps import TagMaps

CASES = (("litepose-xs", 256), ("litepose-s", 448), ("litepose-m", 448), ("litepose-l", 512))


def outputs(people: int, size: int, seed: int) -> list[np.ndarray]:
    """What a network would give for `people` in a square picture of `size` pixels: (1, 34, size / 4, size / 4) and
    (1, 17, size / 2, size / 2)."""
    heat, tags = maps(people, size, seed)
    return [np.concatenate([resized(heat, (size // 4, size // 4)), tags[0]])[None], heat[None]]


def compare(network: Any, codec: BottomUp, batch: Any, made: list, rounds: int, timed: Any) -> dict[str, list[float]]:
    """Milliseconds of the network on `batch` and of decoding the maps of `made`, taking turns, after three turns."""
    spent: dict[str, list[float]] = {"network": [], "decode": [], "peaks, groups": []}
    h, w = batch.shape[2:]
    for turn in range(rounds + 3):
        if turn == 3:  # warm
            for times in spent.values():
                times.clear()
        maps_ = made[turn % len(made)]
        timed(spent["network"], lambda: network.run(batch))
        timed(spent["decode"], lambda maps_=maps_: codec.decode([maps_], [[codec.frame((w, h))]]))
        heat = resized(maps_[1][0], (w, h))
        tags = TagMaps.resized(maps_[0][:, 17:], [(w // 2, h // 2), (w, h)])
        timed(spent["peaks, groups"], lambda heat=heat, tags=tags: match(find_peaks(heat, tags)))
    return spent


def main(rounds: int = 15, people: tuple[int, ...] = (10, 20), cases: int = len(CASES), cpu: bool = False) -> None:
    """Print milliseconds (medians; least in brackets) and shares for each network and number of people."""
    cv2.setNumThreads(1)
    clock = time.process_time if cpu else time.perf_counter

    def timed(times: list[float], function: Any) -> Any:
        begin = clock()
        result = function()
        times.append(1e3 * (clock() - begin))
        return result

    for name, size in CASES[:cases]:
        with tempfile.TemporaryDirectory() as folder:
            card = models.card(name)
            edgepose.save(folder, card, models.build(card), ("onnx",))
            network = edgepose.load(folder, threads=1)
            batch, codec = picture((size, size)), BottomUp(input_size=size, flip=False)
            for n in people:
                spent = compare(network, codec, batch, [outputs(n, size, seed) for seed in range(5)], rounds, timed)
                middle = {key: statistics.median(times) for key, times in spent.items()}
                least = {key: min(times) for key, times in spent.items()}
                shown = ", ".join(f"{key} {middle[key]:.2f} ({least[key]:.2f}) ms" for key in spent)
                share = statistics.median(a / b for a, b in zip(spent["decode"], spent["network"], strict=True))
                print(f"{name} {size}, {n} people: {shown}; decode is {share:.1%} of the network")


if __name__ == "__main__":
    tyro.cli(main)
