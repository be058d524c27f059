"""Pipeline: many pictures through a predictor, reading, network and post-processing of several at once, in order.

Each thread takes whole pictures from file to poses and runs the network on one CPU thread: pictures are independent, so
this keeps every core busy, where more threads inside the network wait for one another.
"""

from __future__ import annotations

import copy
import os
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

import cv2

from edgepose.codecs import Image
from edgepose.detect import Found
from edgepose.poses import Poses

if TYPE_CHECKING:
    from edgepose.predictor import Predictor

AHEAD = 2  # batches begun or done for each worker before the first of them is taken: order costs waiting, not memory


@dataclass(frozen=True, eq=False)
class Answer:
    """What became of one `source`: its `poses`, or the `error` that says in one line why there are none.

    made: what `after` made of it, where `stream` was given one.
    """

    source: Any
    poses: Poses | None = None
    error: str | None = None
    made: Any = None


After = Callable[[Any, Image, Poses], Any]  # source, its picture, who is in it
Given = Callable[[Any], Found]  # source -> boxes and a detector's scores for them


def stream(
    predictor: Predictor,
    sources: Iterable[Any],
    after: After | None = None,
    batch: int | None = None,
    workers: int | None = None,
    given: Given | None = None,
) -> Iterator[Answer]:
    """An `Answer` for each of `sources`, in order; a picture that fails with a `ValueError` or for want of memory is an
    answer with an error, and the rest goes on.

    after: called in the worker as after(source, picture, poses), to draw or write; its result is `Answer.made`.
    batch: pictures a worker takes at once (`usual_batch`). workers: threads, `predictor.threads` unless given; each
    has an engine of its own with one CPU thread, or, where the predictor cannot be opened again, they take turns.
    given: where the people of a source are, for models that look at one person at a time (`Predictor.__call__`).
    `sources` are taken as they are needed; at most `workers` x `batch` pictures are in memory. `ValueError` for a
    number below 1.
    """
    for name, number in (("batch", batch), ("workers", workers)):
        if number is not None and number < 1:
            raise ValueError(f"{name} must be at least 1, got {number}")
    workers, batch = workers or predictor.threads, batch or usual_batch(predictor)
    sources = iter(sources)
    head = list(islice(sources, 2))
    if len(head) < 2:  # nothing to overlap: the network may have all threads
        yield from (_answers(predictor, [source], after, given)[0] for source in head)
        return
    yield from _stream(predictor, chain(head, sources), after, batch, workers, given)


def usual_batch(predictor: Predictor) -> int:
    """Pictures at once: 1 on CPUs, where larger batches leave the caches and are no faster (benchmarks/throughput.py);
    8 on other devices."""
    return 1 if predictor.again is not None else 8


def _stream(
    predictor: Predictor, sources: Iterator[Any], after: After | None, batch: int, workers: int, given: Given | None
) -> Iterator[Answer]:
    lock, crew = Lock(), dict[int, "Predictor"]()

    def work(chunk: list[Any]) -> list[Answer]:
        if get_ident() not in crew:
            crew[get_ident()] = _hired(predictor, lock)
        return _answers(crew[get_ident()], chunk, after, given)

    waiting = deque[Future[list[Answer]]]()
    pool = ThreadPoolExecutor(workers, "edgepose")
    with _one_thread():
        try:
            while True:
                while len(waiting) < AHEAD * workers and (chunk := list(islice(sources, batch))):
                    waiting.append(pool.submit(work, chunk))
                if not waiting:
                    break
                yield from waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
            for member in crew.values():
                predictor.spent.update(member.spent)


@contextmanager
def _one_thread() -> Iterator[None]:
    """OpenCV on the calling thread alone: the workers fill the cores."""
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        cv2.setNumThreads(before)


def _hired(predictor: Predictor, lock: Lock) -> Predictor:
    """The predictor for one more thread: opened again, or sharing its engine and detector under `lock`."""
    if predictor.again is not None:
        other = predictor.again()
        other.codec = predictor.codec
        if isinstance(other.detect, type(predictor)) and isinstance(predictor.detect, type(predictor)):
            other.detect.codec = predictor.detect.codec
        elif other.detect is not None and other.detect is predictor.detect:
            other.detect = _guarded(other.detect, lock)
        return other
    other = _sharing(predictor, lock)
    if isinstance(other.detect, type(predictor)):
        other.detect = _sharing(other.detect, lock)
        other.detect.spent = other.spent
    elif other.detect is not None:
        other.detect = _guarded(other.detect, lock)
    return other


def _sharing(predictor: Predictor, lock: Lock) -> Predictor:
    other = copy.copy(predictor)
    other.engine, other.spent = _guarded(predictor.engine, lock), Counter()
    return other


def _guarded(function: Callable[..., Any], lock: Lock) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        with lock:
            return function(*args)

    return call


def _answers(predictor: Predictor, chunk: Sequence[Any], after: After | None, given: Given | None) -> list[Answer]:
    """Answers for `chunk`; where its pictures fail together, each is tried alone."""
    answers: list[Answer | None] = [None] * len(chunk)
    images: dict[int, Image] = {}
    for i, source in enumerate(chunk):
        try:
            images[i] = predictor.read(source)
        except (ValueError, MemoryError) as error:
            answers[i] = Answer(source, error=_line(source, error))
    try:
        where = zip(*(given(chunk[i]) for i in images), strict=True) if given is not None and images else ()
        found: dict[int, Poses] = dict(zip(images, predictor.several(list(images.values()), *where), strict=True))
    except (ValueError, MemoryError) as error:
        if len(images) > 1:
            alone = {i: _answers(predictor, [chunk[i]], after, given)[0] for i in images}
            return [answer or alone[i] for i, answer in enumerate(answers)]
        found = {}
        for i in images:
            answers[i] = Answer(chunk[i], error=_line(chunk[i], error))
    for i, poses in found.items():
        try:
            made = after(chunk[i], images[i], poses) if after is not None else None
            answers[i] = Answer(chunk[i], poses, None, made)
        except (ValueError, MemoryError) as error:
            answers[i] = Answer(chunk[i], error=_line(chunk[i], error))
    return [answer for answer in answers if answer is not None]


def _line(source: Any, error: BaseException) -> str:
    if isinstance(error, MemoryError):
        return f"{source if isinstance(source, (str, os.PathLike)) else 'a picture'}: not enough memory"
    return " ".join(str(error).split())
