"""Data sets: one file each, with SKELETON, SPLITS, `read(root, split) -> list[Record]` and `score(records, results)`.

numpy and OpenCV only. SKELETON is None where the set itself says it; `record.truth.skeleton` always holds it.
"""

from __future__ import annotations

import glob
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image
from edgepose.poses import Poses

BOX_AREA = 0.53  # of a person's box: the mean share that COCO's outlines cover; stands in where only a box is known


@dataclass(frozen=True, eq=False)
class Record:
    """One labelled photograph, read when asked for.

    id: number in the data set. name: file name. size: (w, h) in pixels. read: gives the picture, RGB uint8 (h, w, 3).
    truth: labelled people in image pixels; score 0 = joint not labelled; ids are those of the labels, if they have any.
    areas: (N,) float32, square pixels, the scale of the object keypoint similarity. sparse: True where an unlabelled
    joint may be in plain sight, so that training must not teach that it is absent.
    visible: (N, J) uint8, 0 not labelled, 1 labelled but hidden, 2 in sight, where the data set says so.
    others: annotations in COCO's format (`bbox`, `area`, `iscrowd`, `segmentation`) of crowds and of people without
    labelled joints: left out of training and never held against a prediction. heads: (N,) float32, head size in pixels
    (MPII). crowd: crowd index (CrowdPose).
    """

    id: int
    name: str
    size: tuple[int, int]
    read: Callable[[], Image]
    truth: Poses
    areas: NDArray[np.float32]
    sparse: bool = False
    visible: NDArray[np.uint8] | None = None
    others: tuple[Mapping[str, Any], ...] = ()
    heads: NDArray[np.float32] | None = None
    crowd: float | None = None


def open_pictures(root: Path, folder: str, upright: bool = False) -> Callable[[str], Callable[[], Image]]:
    """Pictures by file name from the folder `root/folder`, or from tar files `root/folder*.tar`.

    upright: turn them by their EXIF orientation, as labelling tools do; published sets label stored pixels. Returns
    name -> reader. `ValueError` if there is neither, or for a name that is not there.
    """
    where: dict[str, tuple[str, int, int]] = {}
    if not (root / folder).is_dir():
        tars = sorted(glob.glob(str(root / folder)) + glob.glob(f"{root / folder}*.tar"))
        if not tars:
            raise ValueError(f"no pictures: neither the folder {root / folder} nor {folder}*.tar beside it")
        for tar in tars:
            with tarfile.open(tar) as archive:
                where |= {m.name: (tar, m.offset_data, m.size) for m in archive if m.isfile()}
    lookup = where if where else None
    return lambda name: partial(_read, root / folder, lookup.get(name) if lookup is not None else None, name, upright)


def _read(folder: Path, member: tuple[str, int, int] | None, name: str, upright: bool) -> Image:
    if member is None:
        path = folder / name
        if not path.is_file():
            raise ValueError(f"picture {name!r} is missing from {folder}")
        coded = path.read_bytes()
    else:
        with open(member[0], "rb") as file:
            file.seek(member[1])
            coded = file.read(member[2])
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    image = cv2.imdecode(np.frombuffer(coded, np.uint8), flags) if coded else None
    if image is None:
        raise ValueError(f"picture {name!r} of {folder} cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
