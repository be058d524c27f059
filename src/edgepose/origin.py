"""Origin: what an export starts from, and the photographs that it is calibrated on and judged by."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from edgepose import models
from edgepose.card import Card
from edgepose.certificate import SEEN, View
from edgepose.codecs import Run
from edgepose.codecs.bottomup import BottomUp
from edgepose.detect import boxes
from edgepose.folder import entry
from edgepose.predictor import Predictor, load
from edgepose.runtimes import need
from edgepose.sources import find as find_pictures
from edgepose.sources import photographs, read_image, stems
from edgepose.weights import find

LONGEST, MOST = 384, 24  # side of a certificate's pictures, pixels; their number
CALIBRATION = 64  # photographs, at most


@dataclass(frozen=True)
class Source:
    """A model to export. network: torch module. run: what it is compared with. file: its weights."""

    folder: Path
    card: Card
    network: Any
    run: Run
    file: Path


def source(model: str, size: tuple[int, int] | None = None) -> Source:
    """The PyTorch weights of a model folder, or a torch twin of its ONNX graph, for inputs of `size` (h, w) if given.

    `ValueError` if it has neither.
    """
    folder = find(model)
    card = Card.read(folder)
    if card.export is not None:
        raise ValueError(f"{folder} is itself an export, to {card.export.runtime}: export its source, {card.model}")
    files = {name: folder / Path(file).name for name, file in card.weights.items()}
    if "pytorch" in files:
        need("train", "torch", "safetensors")
        from safetensors.torch import load_file

        network = models.build(card)
        try:
            network.load_state_dict(load_file(files["pytorch"]))
        except Exception as error:  # of safetensors and torch
            raise ValueError(f"cannot use {files['pytorch']}: {' '.join(str(error).split())[:300]}") from error
        return Source(folder, card, network.eval(), _plain_run(network), files["pytorch"])
    if "onnx" not in files:
        raise ValueError(
            f"{folder} has weights for {', '.join(files) or 'nothing'}; exporting starts from pytorch or onnx"
        )
    need("export", "torch", "onnx")
    import onnx

    from edgepose.runtimes import onnx as engine
    from edgepose.runtimes._twin import Twin

    run = engine.read(card, files["onnx"])
    return Source(folder, card, Twin(onnx.load(files["onnx"]), size).eval(), run, files["onnx"])


def _plain_run(network: Any) -> Run:
    import torch

    def run(batch: Any) -> Any:
        with torch.inference_mode():
            return [maps.numpy() for maps in network(torch.from_numpy(np.ascontiguousarray(batch)))]

    return run


def views(from_: Source, codec: Any, pictures: Path | None) -> list[View]:
    """The pictures of a certificate, shrunk, with what the source finds in them under `codec`, and its boxes."""
    paths = find_pictures(pictures) if pictures else photographs()
    if len(paths) > MOST:
        paths = [paths[i] for i in np.linspace(0, len(paths) - 1, MOST).round().astype(int)]
    plain = replace(codec, peaks_in_graph=False)
    judge, found = Predictor(replace(from_.card, codec=plain), plain, from_.run), []
    whole = isinstance(codec, BottomUp)
    finder = None if whole else _finder(from_.folder)
    for path, name in zip(paths, stems(paths), strict=True):
        image = _shrunk(read_image(path))
        where = None
        if finder is not None:
            people = finder(image)
            where = np.round(boxes(people[np.asarray(people.person_scores) >= SEEN]), 3)
        poses = judge(image) if where is None else judge(image, where)
        found.append(View(re.sub(r"[^\w.-]", "_", name), image, where, poses))
    return found


def _shrunk(image: Any) -> Any:
    h, w = image.shape[:2]
    zoom = min(1.0, LONGEST / max(h, w))
    size = (max(1, round(w * zoom)), max(1, round(h * zoom)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA) if zoom < 1 else image


def score_change(from_: Source, product: Predictor, data: str, root: Path, split: str) -> dict[str, Any]:
    """The data set's first figure with the source's network and with the product's, both under the product's codec.

    Where that codec is not the source's own, its figure as it ships is there too (`source_as_it_ships`).
    """
    need("train", "faster_coco_eval", "scipy")
    from edgepose.data._oks import average_precision
    from edgepose.evaluate import detections

    kind: Any = entry("edgepose.data", data)
    records, score = kind.read(root, split), getattr(kind, "score", average_precision)
    plain = replace(product.codec, peaks_in_graph=False)  # type: ignore[type-var]
    same = Predictor(from_.card, plain, from_.run, product.detect)
    tried = {"product": product, "source": same}
    if plain != from_.card.codec:
        tried["source_as_it_ships"] = Predictor(from_.card, from_.card.codec, from_.run, product.detect)
    all_figures = {who: score(records, detections(predictor, records)) for who, predictor in tried.items()}
    name = next(iter(all_figures["product"]))
    values = {who: round(float(found[name]), 5) for who, found in all_figures.items()}
    change = round(values["product"] - values["source"], 5)
    return {"on": f"{data} {split}", "figure": name, **values, "score_change": change}


def batches(given: Source, codec: Any, folder: Path) -> list[Any]:
    """What the network sees of up to `CALIBRATION` photographs of a folder: (1, 3, h, w) each, scales or people."""
    paths, found = find_pictures(folder), []
    for i in np.linspace(0, len(paths) - 1, min(len(paths), CALIBRATION)).round().astype(int):
        image = read_image(paths[i])
        where = None
        if not isinstance(codec, BottomUp):
            people = _finder(given.folder)(image)
            where = boxes(people[np.asarray(people.person_scores) >= SEEN])[:2]
        encoded, _ = replace(codec, flip=False).encode(image, where)
        found += [batch[k : k + 1] for batch in encoded for k in range(len(batch))]
    if not found:
        raise ValueError(f"nobody was found in the photographs of {folder}: nothing to calibrate on")
    return found


@lru_cache(maxsize=1)
def _finder(folder: Path) -> Predictor:
    return load(folder)
