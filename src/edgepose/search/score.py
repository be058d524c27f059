"""Scores of candidates: a subnet gets BatchNorm statistics of its own and is judged on photographs kept apart."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from multiprocessing import connection, get_context, parent_process
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from edgepose import evaluate, folder, recalibrate, train
from edgepose.card import Card
from edgepose.codecs import Batch, Maps, normalise
from edgepose.codecs.bottomup import BottomUp
from edgepose.data import Record
from edgepose.data._loader import BottomUpSamples
from edgepose.predictor import Predictor
from edgepose.recipes import Recipe
from edgepose.search.plan import Search
from edgepose.search.space import Candidate, Space
from edgepose.search.supernet import subnet


def pictures(plan: Recipe, shown: BottomUpSamples, size: int) -> Iterator[Tensor]:
    """The batches that BatchNorm statistics are taken from: training samples, none that a step was made with."""
    first = plan.steps * plan.batch
    for begin in range(first, first + plan.search.calibrate * plan.batch, plan.batch):
        images = [normalise(shown.picture(number, size).image) for number in range(begin, begin + plan.batch)]
        yield torch.from_numpy(np.concatenate(images))


def run(net: nn.Module, batch: Batch) -> Maps:
    """The maps of a network, in the plain layout: very narrow networks are not safe in channels-last (torch 2.13)."""
    with torch.inference_mode():
        return [maps.numpy() for maps in net(torch.from_numpy(batch))]


def peaks(codec: BottomUp, network: Callable[[Batch], Maps], records: Sequence[Record]) -> float:
    """Mean similarity (OKS of one joint, 0 to 1) of the highest value in each labelled person's box to the label.

    It judges heatmaps alone and is fine enough for networks that have learnt little, whose AP is 0.
    """
    found: list[np.ndarray] = []
    codec = replace(codec, flip=False, scales=(1.0,))
    for record in records:
        (batch,), ((warp,),) = codec.encode(record.read())
        heat = codec.heatmaps([network(batch)], warp.size)
        for pose, area in zip(record.truth, record.areas, strict=True):
            seen = pose.scores > 0
            if not seen.any():
                continue
            given = pose.xy[seen] if pose.box is None else np.reshape(pose.box, (2, 2))
            corners = warp(np.stack([given.min(0), given.max(0)]))
            pad = 0.1 * (corners[1] - corners[0]).max()
            x0, y0 = np.clip(np.floor(corners[0] - pad), 0, np.array(warp.size) - 1).astype(int)
            x1, y1 = np.clip(np.ceil(corners[1] + pad), (x0, y0), np.array(warp.size)).astype(int) + 1
            window = heat[seen, y0:y1, x0:x1]
            best = window.reshape(len(window), -1).argmax(1)
            at = np.stack([x0 + best % window.shape[2], y0 + best // window.shape[2]], 1) + 0.5
            distance = ((warp.back(at.astype(np.float32)) - pose.xy[seen]) ** 2).sum(1)
            sigmas = np.asarray(codec.skeleton.sigmas)[seen]
            found.append(np.exp(-distance / (8 * sigmas**2 * max(float(area), 1.0))))
    if not found:
        raise ValueError("none of the photographs that judge the subnets has a labelled joint")
    return float(np.concatenate(found).mean())


@dataclass(frozen=True, eq=False)
class Judge:
    """Scores candidates of `space`: subnets of `net`, on the photographs `held`. card: of the largest network."""

    net: nn.Module
    card: Card
    space: Space
    plan: Recipe
    shown: BottomUpSamples
    held: Sequence[Record]

    def subnet(self, candidate: Candidate) -> nn.Module:
        """The candidate's network, with its inherited weights and statistics of its own."""
        net = subnet(self.net, candidate.arch)
        recalibrate.statistics(net, _kept(self, candidate.size))
        return net

    def codec(self, candidate: Candidate) -> BottomUp:
        """How the candidate reads pictures."""
        codec: Any = self.card.codec
        return replace(codec, input_size=candidate.size)

    def __call__(self, candidate: Candidate) -> float:
        """The score of the recipe, `search.score`; rounded, so that it is the same in every process."""
        net, codec = self.subnet(candidate), self.codec(candidate)
        if self.plan.search.score == "peaks":
            return round(peaks(codec, partial(run, net), self.held), 5)
        ready = Predictor(replace(self.card, codec=codec), codec, partial(run, net))
        score = folder.entry("edgepose.data", self.plan.photographs[0][0]).score
        return round(score(self.held, evaluate.detections(ready, self.held))["AP"], 5)


@lru_cache(maxsize=8)
def _kept(judge: Judge, size: int) -> list[Tensor]:
    return list(pictures(judge.plan, judge.shown, size))


@lru_cache(maxsize=1)
def judge(supernet: Path, recipe: Path, root: Path) -> Judge:
    """The judge of the subnets of the model folder `supernet`, by a written recipe; `ValueError` if they do not fit."""
    plan, card, net = Recipe.read(recipe), Card.read(supernet), recalibrate.load(supernet)
    if not isinstance(card.codec, BottomUp):
        raise ValueError(f"{card.model} looks at one person at a time; only networks of whole pictures can be searched")
    space = Space.of(net.arch, card.codec.input_size, plan.search.space)
    photographs = train.records(plan.photographs, root)
    if photographs and photographs[0].truth.skeleton.joints != card.codec.skeleton.joints:
        raise ValueError(f"{supernet} finds the joints of {card.codec.skeleton.name}, {root} has other labels")
    plan, shown = train.samples(plan, card.codec, root, photographs)
    assert isinstance(shown, BottomUpSamples)
    return Judge(net, card, space, plan, shown, train.parted(plan, photographs)[1])


def _orphaned() -> None:
    """End this process when the one that started it is gone, however it went."""
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(1)


def _begin() -> None:
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    threading.Thread(target=_orphaned, daemon=True).start()


class _Here:
    """Scores in this process, with one thread, so that sums are those of a worker."""

    def map(self, score: Callable[[tuple[int, ...]], float], values: Sequence[tuple[int, ...]]) -> Iterator[float]:
        before = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield from map(score, values)
        finally:
            torch.set_num_threads(before)


def _scored(supernet: Path, recipe: Path, root: Path, values: tuple[int, ...]) -> float:
    ready = judge(supernet, recipe, root)
    return ready(ready.space.candidate(values))


def identity(plan: Search, supernet: Path) -> str:
    """What scores depend on: the supernet's weights, and how subnets are judged."""
    weights = (supernet / Card.read(supernet).weights["pytorch"]).read_bytes()
    facts = [sorted(plan.space.items()), plan.hold, plan.calibrate, plan.score]
    return hashlib.sha256(weights + json.dumps(facts).encode()).hexdigest()[:16]


class Scores:
    """Scores candidates in `workers` processes of one thread each (0: in this one), and remembers them in files.

    Every score is written as soon as it is there, so nothing is lost when the search is killed. Several machines that
    search together (`place` of `places`) each score a share and tell one another. tick: called after every score.
    """

    def __init__(
        self, out: Path, supernet: Path, recipe: Path, root: Path, workers: int = 1, place: int = 0, places: int = 1,
        tick: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        self.space = judge(supernet, recipe, root).space
        self.file, self.place, self.places, self.tick = out / f"scores.{place}.jsonl", place, places, tick
        self.key = identity(Recipe.read(recipe).search, supernet)
        self.known: dict[tuple[int, ...], float] = {}
        for file in sorted(out.glob("scores.*.jsonl")):
            self._recall(file)
        self.score = partial(_scored, supernet, recipe, root)
        for part in _gathered(self.known, places):
            self.known |= part
        self.pool = ProcessPoolExecutor(workers, get_context("spawn"), _begin) if workers else None

    def __enter__(self) -> Scores:
        return self

    def __exit__(self, *_: object) -> None:
        if self.pool:
            self.pool.shutdown(cancel_futures=True)

    def __call__(self, candidates: Sequence[Candidate]) -> list[float]:
        """The score of each, in their order."""
        values = [self.space.values(c) for c in candidates]
        fresh = list(dict.fromkeys(v for v in values if v not in self.known))
        mine = fresh[self.place :: self.places]
        found: dict[tuple[int, ...], float] = {}
        for value, score in zip(mine, (self.pool or _Here()).map(self.score, mine), strict=True):
            found[value] = score
            with open(self.file, "a") as file:
                file.write(json.dumps({"key": self.key, "values": value, "score": score}) + "\n")
            self.tick()
        for part in _gathered(found, self.places):
            self.known |= part
        return [self.known[v] for v in values]

    def _recall(self, file: Path) -> None:
        """Scores of this supernet; a line that was cut off by the end of a process is dropped."""
        for line in file.read_text().splitlines():
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                continue
            if row["key"] == self.key:
                self.known[tuple(row["values"])] = row["score"]


def _gathered(found: dict[tuple[int, ...], float], places: int) -> list[dict[tuple[int, ...], float]]:
    """What every machine has found."""
    if places == 1:
        return [found]
    parts: list[Any] = [None] * places
    torch.distributed.all_gather_object(parts, found)
    return parts
