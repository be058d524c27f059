"""Converting labels between annotation formats, through `edgepose.formats`."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from edgepose import folder
from edgepose.formats import Labels, safe, writable

COPIES = {"coco": "images", "yolo": "images/{}"}  # where these layouts keep their pictures


def run(
    source: Positional[Path],
    from_: Annotated[str, arg(name="from", metavar="FORMAT")],
    to: Annotated[str, arg(metavar="FORMAT")],
    out: Annotated[Path, arg(metavar="FOLDER")],
    split: str = "train",
    pictures: Annotated[Path | None, arg(metavar="FOLDER")] = None,
) -> int:
    """Convert labels of people between the formats coco, yolo, cvat and labelstudio.

    Args:
        source: label file, or the folder that holds it.
        from_: format of the source: coco, yolo, cvat or labelstudio.
        to: format to write.
        out: folder for the new labels.
        split: part of the data set; names the files of coco and the folders of yolo.
        pictures: folder with the pictures. They are copied beside the labels of coco and yolo.
    """
    reader, writer = folder.entry("edgepose.formats", from_), folder.entry("edgepose.formats", to)
    if not source.exists():
        raise ValueError(f"no such file or folder: {source}")
    if pictures is not None and not pictures.is_dir():
        raise ValueError(f"no such folder: {pictures}")
    labels: Labels = reader.read(source, split, pictures)
    out.mkdir(parents=True, exist_ok=True)
    written = writer.write(labels, out, split)
    people = [p for i in labels.pictures for p in i.people]
    print(f"{len(labels.pictures)} pictures, {len(people)} people, {len(labels.joints)} joints: {writer.WHAT}")
    if to != "coco":
        aside = sum(not writable(p) for p in people)
        if aside:
            print(f"{aside} crowds or people without a place are in {written[-1].name} alone: {to} cannot hold them")
    print("-> " + ", ".join(str(path) for path in written))
    if pictures is not None and to in COPIES:
        missing = copy(labels, pictures, out / COPIES[to].format(split))
        if missing:
            print(f"{len(missing)} pictures are not in {pictures}, for example {missing[0]}")
            return 1
    return 0


def copy(labels: Labels, pictures: Path, out: Path) -> list[str]:
    """Copy the pictures that `out` does not have yet; returns the names of those that are not in `pictures`."""
    missing = []
    for picture in labels.pictures:
        source, target = pictures / safe(picture.name), out / safe(picture.name)
        if target.exists():
            continue
        if not source.is_file():
            missing.append(picture.name)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{target.name}.part")
        shutil.copyfile(source, part)
        part.replace(target)
    return missing
