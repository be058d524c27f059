"""Boxes: where a person detector says people are, from a results file or from its network in ONNX.

The networks are YOLOX (arXiv 2107.08430) and RTMDet (arXiv 2212.07784), and others that give what these give.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image
from edgepose.detect import Detector

Boxes = NDArray[np.float32]
PERSON = 1  # category id of people in COCO's files; class 0 of networks
LEAST = 0.1  # score of a box worth a look
OVERLAP = 0.65  # of two boxes, intersection over union, above which they are of one person (YOLOX's own evaluation)
PAD = 114  # grey around the picture in a detection network's input
BGR_MEAN, BGR_STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # of RTMDet's input, 0 to 255
SIDE = 640  # of the input, pixels, where the network takes any


def from_results(path: str | Path, wanted: Collection[int | str]) -> dict[int | str, tuple[Boxes, Boxes]]:
    """Boxes (N, 4) x0, y0, x1, y1 and scores (N,) of each `wanted` image id, from a JSON file in COCO's results format.

    Rows are {"image_id", "category_id" (1, people; others are left out), "bbox": [x, y, width, height], "score"}, as in
    the detection files that papers on COCO and CrowdPose use. An image that it does not name has no boxes; `ValueError`
    if it names none of those wanted, or for a row that cannot be used.
    """
    try:
        rows = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read the boxes {path}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"{path} is no results file: {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path} is no results file: it holds {type(rows).__name__}, not a list of boxes")
    found: dict[int | str, list[tuple[float, ...]]] = {}
    for n, row in enumerate(rows):
        try:
            if row.get("category_id", PERSON) != PERSON:
                continue
            image, (x, y, w, h), score = row["image_id"], map(float, row["bbox"]), float(row["score"])
        except (AttributeError, KeyError, TypeError, ValueError):
            raise ValueError(f"{path}, row {n}: no image_id, bbox [x, y, width, height] and score in {row}") from None
        if not np.isfinite([x, y, w, h, score]).all() or w < 0 or h < 0:
            raise ValueError(f"{path}, row {n}: bbox {row['bbox']} with score {score} is no box")
        people = found.setdefault(image, [])
        if w > 0 and h > 0:
            people.append((x, y, x + w, y + h, score))
    if not found.keys() & set(wanted):
        some = [", ".join(map(repr, sorted(ids, key=str)[:3])) or "none" for ids in (found, wanted)]
        raise ValueError(
            f"{path} has boxes for none of these pictures: its image ids are {some[0]}..., theirs {some[1]}..."
        )
    arrays = {image: np.array(found.get(image, []), np.float32).reshape(-1, 5) for image in wanted}
    return {image: (rows[:, :4], rows[:, 4]) for image, rows in arrays.items()}


def from_onnx(
    path: str | Path,
    device: str = "cpu",
    threads: int | None = None,
    normalised: bool | None = None,
    least: float = LEAST,
) -> Detector:
    """A detector from an ONNX file that finds people (class 0) in one BGR picture (1, 3, h, w), grey to the right and
    below where its shape is another.

    What it gives says what it is. (1, cells, 5 + classes) over strides 8, 16 and 32: YOLOX whose boxes are not decoded
    yet. (1, N, 5), x0, y0, x1, y1 in input pixels and a score, with (1, N) classes if there are any: YOLOX or RTMDet
    that suppresses double boxes itself. normalised: whether its colours are those of RTMDet, (v - mean) / std, or those
    of YOLOX, 0 to 255; by default YOLOX's if the output is not decoded or "yolox" is in the file's name.
    least: lowest score of a box. `ValueError` for a file that is neither.
    """
    from edgepose.runtimes.onnx import session

    net = session(path, device, threads)
    (images, *others) = net.get_inputs()
    if others or len(images.shape) != 4 or images.shape[1] not in (3, None):
        raise ValueError(f"{path} is no detector of people: its input is not one picture (1, 3, height, width)")
    h, w = (side if isinstance(side, int) else SIDE for side in images.shape[2:])

    def run(batch: NDArray[np.float32]) -> list[NDArray]:
        try:
            return net.run(None, {images.name: batch})
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise ValueError(f"{path} failed on a picture {batch.shape}: {str(error)[:300]}") from error

    shapes = [out.shape for out in run(np.full((1, 3, h, w), PAD, np.float32))]
    raw = len(shapes) == 1 and len(shapes[0]) == 3 and shapes[0][1] == len(grid(h, w)[0]) and shapes[0][2] > 5
    if not raw and not (0 < len(shapes) < 3 and len(shapes[0]) == 3 and shapes[0][2] == 5):
        raise ValueError(
            f"{path} is no detector known here: for {w}x{h} pixels it gives {shapes}, where YOLOX gives "
            f"(1, {len(grid(h, w)[0])}, 5 + classes) or (1, boxes, 5) and RTMDet (1, boxes, 5) and (1, boxes)"
        )
    if normalised is None:
        normalised = not raw and "yolox" not in Path(path).name.lower()
    mean, std = (np.array(v, np.float32)[:, None, None] for v in ((BGR_MEAN, BGR_STD) if normalised else ([0], [1])))

    def detect(image: Image) -> tuple[Boxes, Boxes]:
        canvas, zoom = fitted(image, w, h)
        batch = (canvas[..., ::-1].transpose(2, 0, 1)[None] - mean) / std
        boxes, scores = (decoded if raw else suppressed)(run(np.ascontiguousarray(batch, np.float32)), h, w, least)
        boxes = np.clip(boxes / zoom, 0, [image.shape[1], image.shape[0]] * 2).astype(np.float32)
        real = (boxes[:, 2:] > boxes[:, :2]).all(1)
        return boxes[real], scores[real]

    return detect


def fitted(image: Image, w: int, h: int) -> tuple[Image, float]:
    """The picture enlarged or shrunk to fit into w x h pixels at the top left, grey elsewhere; and the factor."""
    zoom = min(w / image.shape[1], h / image.shape[0])
    size = (max(round(image.shape[1] * zoom), 1), max(round(image.shape[0] * zoom), 1))
    canvas = np.full((h, w, 3), PAD, np.uint8)
    canvas[: size[1], : size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
    return canvas, zoom


def grid(h: int, w: int, strides: Sequence[int] = (8, 16, 32)) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Column and row (cells, 2) of each cell of an input of h x w pixels, row by row, finest first; its stride."""
    cells = [np.stack(np.meshgrid(np.arange(w // s), np.arange(h // s)), -1).reshape(-1, 2) for s in strides]
    steps = [np.full((len(c), 1), s) for c, s in zip(cells, strides, strict=True)]
    return np.concatenate(cells).astype(np.float32), np.concatenate(steps).astype(np.float32)


def decoded(outputs: Sequence[NDArray], h: int, w: int, least: float) -> tuple[Boxes, Boxes]:
    """People of a raw YOLOX output (1, cells, 5 + classes): centre in cells, log of size, objectness, classes."""
    rows, (cells, steps) = outputs[0][0], grid(h, w)
    scores = rows[:, 4] * rows[:, 5]
    sure = (scores >= least) & (rows[:, 5] >= rows[:, 5:].max(1))
    rows, scores, cells, steps = rows[sure], scores[sure], cells[sure], steps[sure]
    middle, sides = (rows[:, :2] + cells) * steps, np.exp(rows[:, 2:4]) * steps
    boxes = np.concatenate([middle - sides / 2, sides], 1)
    kept = np.array(cv2.dnn.NMSBoxes(boxes.tolist(), scores.tolist(), least, OVERLAP), int).reshape(-1)
    boxes = np.concatenate([boxes[kept, :2], boxes[kept, :2] + boxes[kept, 2:]], 1)
    return boxes.astype(np.float32), scores[kept].astype(np.float32)


def suppressed(outputs: Sequence[NDArray], h: int, w: int, least: float) -> tuple[Boxes, Boxes]:
    """People among boxes (1, N, 5) that the network has sorted out itself, with classes (1, N) if it has several."""
    rows = outputs[0][0]
    sure = rows[:, 4] >= least
    if len(outputs) > 1:
        sure &= outputs[1].reshape(-1) == 0
    return rows[sure, :4].astype(np.float32), rows[sure, 4].astype(np.float32)
