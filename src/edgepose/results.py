"""Results: what prediction leaves on disk. Drawn pictures, a plain JSON each, ids for COCO's results format."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2

from edgepose.codecs import Image
from edgepose.poses import Poses


def image_id(path: Path) -> int | str:
    """The integer that a numeric file stem reads as (000000000139 -> 139), else the stem."""
    return int(path.stem) if path.stem.isascii() and path.stem.isdecimal() else path.stem


def plain(poses: Poses, path: Path, image: Image, model: str) -> dict[str, Any]:
    """People of one picture as JSON values: joints by name, (x, y, score) in image pixels; box x0, y0, x1, y1."""
    skeleton, people = poses.skeleton, []
    for pose in poses:
        seen = pose.xy[pose.scores > 0] if (pose.scores > 0).any() else pose.xy
        box = pose.box if pose.box is not None else [*seen.min(0), *seen.max(0)]
        rows = zip(skeleton.joints, pose.xy, pose.scores, strict=True)
        joints = {joint: [round(float(x), 2), round(float(y), 2), round(float(s), 4)] for joint, (x, y), s in rows}
        people.append({"score": round(pose.score, 4), "box": [round(float(v), 2) for v in box], "joints": joints})
    return {
        "image": str(path),
        "width": image.shape[1],
        "height": image.shape[0],
        "model": model,
        "skeleton": {"joints": list(skeleton.joints), "limbs": [list(limb) for limb in skeleton.limbs]},
        "people": people,
    }


def read_results(path: Path) -> list[dict[str, Any]]:
    """The rows of a file in COCO's results format; `ValueError` names the file and what is wrong with it."""
    try:
        rows = json.loads(path.read_bytes())
    except OSError as error:
        raise ValueError(f"cannot read the results {path}: {error.strerror}") from error
    except ValueError as error:  # broken JSON and broken UTF-8
        raise ValueError(f"{path} is not a results file: {error}") from error
    if not isinstance(rows, list):
        raise ValueError(f"{path} is not a results file: it holds {type(rows).__name__}, not a list of people")
    return rows


def check_outputs(paths: Sequence[Path], names: Iterable[str], out: Path | None, results: Path | None) -> None:
    """Make the output folders; `ValueError` before any work if something could not be written or would be lost."""
    originals = {os.path.realpath(p) for p in paths}
    for folder in {p for p in (out, results.parent if results else None) if p is not None and paths}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(folder / ".edgepose-writable", b"")
            (folder / ".edgepose-writable").unlink()
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {error.strerror}") from error
    if out is not None:
        for name in names:
            if os.path.realpath(out / f"{name}.jpg") in originals:
                raise ValueError(f"this would overwrite {out / name}.jpg; choose another --out")
    if results is not None:
        if results.is_dir():
            raise ValueError(f"cannot write results to {results}: it is a folder")
        if os.path.realpath(results) in originals:
            raise ValueError(f"this would overwrite {results}")
        ids: dict[int | str, Path] = {}
        for path in paths:
            first = ids.setdefault(image_id(path), path)
            if first is not path:
                raise ValueError(f"{first} and {path} would both be image_id {image_id(path)} in {results}")


def write_whole(path: Path, data: bytes) -> None:
    """Write a file under another name and rename it, so that it is whole or absent."""
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        part.write_bytes(data)
        os.replace(part, path)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        part.unlink(missing_ok=True)


def jpeg(image: Image, path: Path) -> bytes:
    """A picture as JPEG; `ValueError` naming `path` if it is too large for that (65,535 pixels a side)."""
    ok, data = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not ok:
        raise ValueError(f"cannot draw {path}: {image.shape[1]}x{image.shape[0]} is too large for a JPEG")
    return data.tobytes()
