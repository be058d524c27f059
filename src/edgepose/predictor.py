"""Predictor: a codec and a network. Everything that predicts, measures or draws goes through it."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgepose.card import Card
from edgepose.codecs import Batch, Codec, Image, Maps, Run
from edgepose.codecs.bottomup import BottomUp
from edgepose.detect import FAINT, Detector, from_poses, two_looks
from edgepose.folder import entry
from edgepose.poses import Poses
from edgepose.sources import to_image
from edgepose.weights import DEFAULT, DETECTOR, find

MULTIPLE = 16  # every network here halves its input at least four times


class Predictor:
    """Finds the poses in pictures: `predictor(image)`.

    card: what the model is. codec: reads pictures and writes poses. run: any function from a batch to maps.
    detect: finds the boxes for a model that looks at one person at a time (`edgepose.detect`).
    """

    def __init__(self, card: Card, codec: Codec, run: Run, detect: Detector | None = None) -> None:
        self.card = card
        self.codec = codec
        self.engine = run
        self.detect = detect

    def __call__(self, image: Any, boxes: NDArray | None = None) -> Poses:
        """The people in a picture: a path, a PIL picture or an RGB array (h, w, 3) uint8 (see sources.to_image).

        boxes: (N, 4) x0, y0, x1, y1 in image pixels for models that look at one person at a time; one pose for each is
        returned. Without them the model's detector finds the people and each is looked at twice
        (`detect.two_looks`); without a detector the picture is the box.
        Every person is returned, however low the score. `ValueError` if the picture cannot be read.
        """
        picture = to_image(image)
        if boxes is not None or self.detect is None:
            return self._look(self.codec, picture, boxes)
        codec: Any = self.codec
        glance = partial(self._look, replace(codec, flip=False))
        return two_looks(self.detect, glance, partial(self._look, codec), picture)

    def _look(self, codec: Codec, picture: Image, boxes: NDArray | None) -> Poses:
        batches, warps = codec.encode(picture, boxes)
        maps = [self.run(batch) for batch in batches]
        return codec.decode(maps, warps)

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


def load(
    model: str | Path = DEFAULT,
    runtime: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
    flip: bool | None = None,
    detector: str | Path | Detector | None = None,
) -> Predictor:
    """A predictor from the name of a bundled model or from a model folder.

    runtime: "onnx", "pytorch" or "binary"; by default onnx where the folder has it. device: "cpu" or "cuda". threads:
    CPU threads of the network. flip: also look at the mirrored picture (slower, more accurate); by default what the
    card says.
    detector: for a model that looks at one person at a time, what finds the people: the name or folder of a model that
    looks at whole pictures, or a function; by default the one that the card names.
    `ValueError` in one line for an unknown model, a broken folder, a missing engine or device.
    """
    folder = find(model)
    card = Card.read(folder)
    names = sorted(card.weights, key=lambda name: name != "onnx")
    if not names:
        raise ValueError(f"{folder} holds no weights (its card lists none)")
    name = runtime or names[0]
    engine = entry("edgepose.runtimes", name)
    if name not in card.weights:
        raise ValueError(f"{folder} has no weights for {name!r}, only for {', '.join(names)}")
    path = folder / Path(card.weights[name]).name
    if not path.is_file():
        raise ValueError(f"{folder} is incomplete: {path.name} is missing")
    codec: Any = card.codec
    if flip is not None:
        codec = replace(codec, flip=flip)
    run = engine.read(card, path, device, threads)
    if isinstance(codec, BottomUp):
        if detector is not None:
            raise ValueError(f"{model} looks at whole pictures and needs no detector")
        return Predictor(card, codec, run)
    if detector is None or isinstance(detector, (str, Path)):
        finder = load(detector or card.detector or DETECTOR, None, device, threads, flip)
        if not isinstance(finder.codec, BottomUp):
            raise ValueError(f"{detector or card.detector} cannot find people: it looks at one person at a time itself")
        finder.codec = replace(finder.codec, threshold=min(FAINT, finder.codec.threshold))
        detector = from_poses(finder)
    return Predictor(card, codec, run, detector)
