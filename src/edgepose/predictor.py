"""Predictor: a codec and a network. Everything that predicts, measures or draws goes through it."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.boxes import from_onnx
from edgepose.card import Card
from edgepose.codecs import Batch, Codec, Image, Maps, Run
from edgepose.codecs.bottomup import BottomUp
from edgepose.detect import FAINT, Detector, Found, one_look, places, two_looks
from edgepose.fastest import choose
from edgepose.folder import entry
from edgepose.pipeline import Answer, stream
from edgepose.poses import Poses
from edgepose.runtimes import cpus, need
from edgepose.sources import to_image
from edgepose.weights import DEFAULT, DETECTOR, find

MULTIPLE = 16  # every network here halves its input at least four times
AT_ONCE = 2**21  # pixels in one call of the network, where there are pictures to choose from: memory follows them


class Predictor:
    """Finds the poses in pictures: `predictor(image)`, `predictor.several(images)`, `predictor.many(sources)`.

    card: what the model is. codec: reads pictures and writes poses. run: any function from a batch to maps.
    detect: finds the boxes for a model that looks at one person at a time: a function (`edgepose.detect`), or a
    predictor of whole pictures. looks: at each of them; two where the boxes are rough, as a bottom-up model's are.

    Set by `load`: runtime, the engine's name ("" if it was handed in); threads, CPU threads it may use; again, which
    opens it once more with one thread, for `many` (None: the engine is shared). spent: seconds so far by step: "decode
    file", "encode", "network", "decode poses"; a detecting predictor's are counted in, and again as "find people".
    """

    def __init__(
        self,
        card: Card,
        codec: Codec,
        run: Run,
        detect: Detector | Predictor | None = None,
        looks: int = 2,
    ) -> None:
        self.card = card
        self.codec = codec
        self.engine = run
        self.detect = detect
        self.looks = looks
        self.runtime = ""
        self.threads = cpus()
        self.again: Callable[[], Predictor] | None = None
        self.spent: Counter[str] = Counter()
        if isinstance(detect, Predictor):
            detect.spent = self.spent

    def __call__(self, image: Any, boxes: NDArray | None = None, trust: NDArray | None = None) -> Poses:
        """The people in a picture: a path, a PIL picture or an RGB array (h, w, 3) uint8 (see sources.to_image).

        boxes: (N, 4) x0, y0, x1, y1 in image pixels for models that look at one person at a time; one pose for each is
        returned. trust: (N,) a detector's scores for them: people are scored and sorted out as with a detector then
        (`detect.one_look`). Without boxes the model's detector finds the people and each is looked at twice, or once
        (`detect.two_looks`); without a detector the picture is the box.
        Every person is returned, however low the score. `ValueError` if the picture cannot be read.
        """
        return self.several([image], None if boxes is None else [boxes], None if trust is None else [trust])[0]

    def several(
        self, images: Sequence[Any], boxes: Sequence[NDArray] | None = None, trusts: Sequence[NDArray] | None = None
    ) -> list[Poses]:
        """The people of each picture, as `predictor(image)` finds them; what has the same size, pictures or people, of
        one picture or of several, goes through the network together. All pictures are held in memory."""
        codec: Any = self.codec
        pictures, look = [self.read(image) for image in images], partial(self._look, codec)
        if boxes is not None and trusts is not None:
            return one_look(look, pictures, list(zip(boxes, trusts, strict=True)))
        if boxes is not None or self.detect is None:
            return look(pictures, [None] * len(pictures) if boxes is None else boxes)
        if self.looks == 1:
            return one_look(look, pictures, self._people(pictures))
        return two_looks(self._people(pictures), partial(self._look, replace(codec, flip=False)), look, pictures)

    def many(self, sources: Iterable[Any], batch: int | None = None, workers: int | None = None) -> Iterator[Answer]:
        """An `Answer` for each source, in order: `answer.poses`, or `answer.error` for a picture that cannot be read.

        As fast as the machine allows: `workers` threads (all of `threads` unless given) each read a picture, run the
        network on one CPU thread and group people, `batch` pictures at once (see `pipeline.usual_batch`). Few pictures
        are in memory at any time, however many `sources` there are; poses are those of `predictor(source)`.
        """
        return stream(self, sources, batch=batch, workers=workers)

    def read(self, image: Any) -> Image:
        """The picture as `several` takes it (`sources.to_image`), its time counted as "decode file"."""
        return self._timed("decode file", to_image, image)

    def _people(self, pictures: Sequence[Image]) -> list[Found]:
        begin, detect = time.perf_counter(), self.detect
        if isinstance(detect, Predictor):
            found = [places(poses) for poses in detect.several(pictures)]
        else:
            assert detect is not None
            found = [detect(picture) for picture in pictures]
        self.spent["find people"] += time.perf_counter() - begin  # type: ignore[assignment]
        return found

    def _look(self, codec: Codec, pictures: Sequence[Image], boxes: Sequence[NDArray | None]) -> list[Poses]:
        pairs = zip(pictures, boxes, strict=True)
        encoded = [self._timed("encode", codec.encode, picture, places) for picture, places in pairs]
        maps = iter(self._maps([batch for batches, _ in encoded for batch in batches]))
        return [
            self._timed("decode poses", codec.decode, [next(maps) for _ in batches], warps)
            for batches, warps in encoded
        ]

    def _maps(self, batches: list[Batch]) -> list[Maps]:
        """The maps of each batch, those of one picture size run together."""
        out: list[Maps] = [[] for _ in batches]
        for rows in together(batches):
            parts = [batches[row] for row in rows]
            maps = self._timed("network", self.run, parts[0] if len(parts) == 1 else np.concatenate(parts))
            ends = np.cumsum([len(part) for part in parts])
            for row, end in zip(rows, ends, strict=True):
                out[row] = [output[end - len(batches[row]) : end] for output in maps]
        return out

    def _timed(self, step: str, function: Callable[..., Any], *args: Any) -> Any:
        begin = time.perf_counter()
        try:
            return function(*args)
        finally:
            self.spent[step] += time.perf_counter() - begin  # type: ignore[assignment]

    def run(self, batch: Batch) -> Maps:
        """Raw maps of normalised pictures (n, 3, h, w) float32, finest last; see `codecs.normalise`.

        Nothing is padded: `ValueError` unless h and w are multiples of 16 (32 or 64 for some networks).
        """
        if not isinstance(batch, np.ndarray) or batch.dtype != np.float32:
            raise ValueError(f"a batch is a float32 array, not {getattr(batch, 'dtype', type(batch).__name__)}")
        if batch.ndim != 4 or batch.shape[1] != 3 or 0 in batch.shape:
            raise ValueError(f"a batch has shape (n, 3, height, width), not {batch.shape}")
        if batch.shape[2] % MULTIPLE or batch.shape[3] % MULTIPLE:
            raise ValueError(
                f"height and width of a batch must be multiples of {MULTIPLE} (safest: 64), not {batch.shape}"
            )
        return self.engine(batch)


def together(batches: Sequence[Batch], most: int = AT_ONCE) -> list[list[int]]:
    """Rows of `batches` that may go through the network together: of one picture size, in order, at most `most` pixels
    where a batch alone has no more."""
    groups: list[list[int]] = []
    latest: dict[tuple[int, ...], tuple[int, int]] = {}  # picture size -> its open group, pixels in it
    for row, batch in enumerate(batches):
        pixels = len(batch) * batch.shape[2] * batch.shape[3]
        group, held = latest.get(batch.shape[1:], (-1, most))
        if held + pixels > most:
            groups.append([])
            group, held = len(groups) - 1, 0
        groups[group].append(row)
        latest[batch.shape[1:]] = (group, held + pixels)
    return groups


def load(
    model: str | Path = DEFAULT,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    flip: bool | None = None,
    detector: str | Path | Detector | None = None,
    weights: str | Path | None = None,
) -> Predictor:
    """A predictor from the name of a bundled model or from a model folder.

    runtime: engine, of those the folder has weights for; by default the fastest that is installed (`fastest.choose`),
    off the CPU onnx. device: "cpu", "cuda" or the engine's own. threads: CPU threads of the network. flip: also look at
    the mirrored picture (slower, more accurate); by default what the card says.
    detector: for a model that looks at one person at a time, what finds the people: the name or folder of a model that
    looks at whole pictures, the .onnx file of a detection network (`boxes.from_onnx`), or a function
    (`edgepose.detect`); by default the model that the card names. weights: a released or trained checkpoint (.pth,
    .safetensors) of the architecture that `model` names, as `edgepose models` lists them; needs torch.
    `ValueError` in one line for an unknown model, a broken folder, a missing engine or device.
    """
    predictor = _alone(model, runtime, device, threads, flip, weights)
    if isinstance(predictor.codec, BottomUp):
        if detector is not None:
            raise ValueError(f"{model} looks at whole pictures and needs no detector")
        return predictor
    if callable(detector):
        return _joined(predictor, detector, 1, lambda: detector)
    if detector is not None and Path(detector).suffix == ".onnx":
        once_more = partial(from_onnx, detector, device, 1)
        return _joined(predictor, from_onnx(detector, device, threads), 1, once_more)
    named = detector or predictor.card.detector or DETECTOR
    place = device if device.partition(":")[0] in ("cpu", "cuda") else "cpu"  # others are the engine's own
    finder = load(named, None, place, threads, flip)
    if not isinstance(finder.codec, BottomUp):
        raise ValueError(f"{named} cannot find people: it looks at one person at a time itself")
    finder.codec = replace(finder.codec, threshold=min(FAINT, finder.codec.threshold))
    return _joined(predictor, finder, 2, finder.again)


def _joined(
    alone: Predictor, detect: Detector | Predictor, looks: int, once_more: Callable[[], Any] | None
) -> Predictor:
    """The predictor with a detector; `once_more` opens that again."""
    both = Predictor(alone.card, alone.codec, alone.engine, detect, looks)
    both.runtime, both.threads, again = alone.runtime, alone.threads, alone.again
    if again is not None and once_more is not None:
        both.again = lambda: _joined(again(), once_more(), looks, None)
    return both


def _alone(
    model: str | Path, runtime: str | None, device: str, threads: int | None, flip: bool | None, weights: Any
) -> Predictor:
    """The predictor without a detector."""
    if weights:
        card, run, name = *_checkpoint(model, weights, runtime, device, threads), "pytorch"
    else:
        card, run, name = _saved(model, runtime, device, threads)
    predictor = Predictor(card, card.codec if flip is None else replace(card.codec, flip=flip), run)  # type: ignore
    predictor.runtime, predictor.threads = name, threads or cpus()
    if device == "cpu":
        predictor.again = partial(_alone, model, name, device, 1, flip, weights)
    return predictor


def _saved(model: str | Path, runtime: str | None, device: str, threads: int | None) -> tuple[Card, Run, str]:
    """Card, network and engine of a bundled model or of a model folder."""
    folder = find(model)
    card = Card.read(folder)
    if not card.weights:
        raise ValueError(f"{folder} holds no weights (its card lists none)")
    names = sorted(card.weights, key=lambda name: name != "onnx")
    name = runtime or (choose(folder, card, threads or cpus()) if device == "cpu" else names[0])
    engine = entry("edgepose.runtimes", name)
    if name not in card.weights:
        raise ValueError(f"{folder} has no weights for {name!r}, only for {', '.join(names)}")
    path = folder / Path(card.weights[name]).name
    if not path.exists():  # some engines' files are folders
        raise ValueError(f"{folder} is incomplete: {path.name} is missing")
    return card, engine.read(card, path, device, threads), name


def _checkpoint(
    model: str | Path, weights: str | Path, runtime: str | None, device: str, threads: int | None
) -> tuple[Card, Run]:
    """Card and network of a checkpoint of the architecture `model`."""
    need("train", "torch", "safetensors")
    from edgepose.models._identify import identify
    from edgepose.runtimes import pytorch

    if runtime not in (None, "pytorch"):
        raise ValueError(f"a checkpoint runs in pytorch, not {runtime}: import it first (`edgepose import`)")
    card, net = identify(weights, name=str(model))
    return card, pytorch.placed(net, device, threads)
