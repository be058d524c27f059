"""`edgepose predict`: people in pictures, drawn and written."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from edgepose.terminal import complain, counted, progress
from edgepose.weights import DEFAULT

if TYPE_CHECKING:
    from edgepose.codecs import Image
    from edgepose.pipeline import After
    from edgepose.poses import Poses
    from edgepose.predictor import Predictor

# scores from which people are in pictures and plain JSON: of all joints' mean, or of two looks (chosen on photographs)
WHOLE, TWO_LOOKS = 0.15, 0.35


def predict(
    sources: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SOURCE...")],
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = DEFAULT,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    results: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    threshold: float | None = None,
    device: str = "cpu",
    runtime: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
    no_flip: tyro.conf.FlagCreatePairsOff[bool] = False,
    detector: Annotated[str | None, tyro.conf.arg(metavar="NAME|FOLDER|FILE")] = None,
    weights: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    batch: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
    ray: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Find the people in pictures. Without --out and --results, drawn pictures and JSON go to ./edgepose-out.

    Args:
        sources: pictures, folders of pictures, or quoted globs.
        model: name of a bundled model (see `edgepose models`) or a model folder.
        out: folder for a drawn picture (NAME.jpg) and a plain JSON (NAME.json) of each picture.
        results: file for everybody found, whatever the score, in COCO's results format.
        threshold: lowest score of the people that are drawn and written to the plain JSON; by default 0.15 for models
            of whole pictures and 0.35 for those that look at each person.
        device: cpu or cuda.
        runtime: engine, onnx or pytorch; by default the fastest of those that the model has (see `edgepose info`).
        threads: CPU threads, by default all; several pictures are worked on at once, one thread each.
        no_flip: do not look at the mirrored picture as well; faster, less accurate.
        detector: what finds the people for a model that looks at one person at a time: a model of whole pictures, a
            YOLOX or RTMDet network (.onnx), or boxes in COCO's results format (.json).
        weights: a released or trained checkpoint (.pth, .safetensors) of the architecture --model; needs PyTorch.
        batch: pictures that go through the network together; by default 1 on CPUs, where more is no faster, else 8.
        ray: for very many pictures: work in processes of Ray Data, as many as --threads or CPUs, and write JSON lines
            in shards to --out; the same command goes on with a job that was stopped (extra `ray`).
    """
    from edgepose.boxes import from_results
    from edgepose.pipeline import stream
    from edgepose.predictor import load
    from edgepose.results import check_outputs, image_id, write_whole
    from edgepose.sources import stems

    if not sources:
        raise ValueError("name a picture, a folder or a glob (see `edgepose predict --help`)")
    if ray:
        flip = False if no_flip else None
        return _with_ray(
            sources, out, results, threads, threshold, model, runtime, device, flip, detector, weights, batch
        )
    if out is None and results is None:
        out = Path("edgepose-out")
    listed = detector is not None and detector.endswith(".json")
    predictor = load(model, runtime, device, threads, False if no_flip else None, None if listed else detector, weights)
    if listed and not predictor.detect:
        raise ValueError(f"{model} looks at whole pictures and needs no boxes")
    paths, bad = found(sources)
    names = dict(zip(paths, stems(paths), strict=True))
    check_outputs(paths, names.values(), out, results)
    boxes = from_results(str(detector), [image_id(path) for path in paths]) if listed and paths else None
    given = None if boxes is None else lambda path: boxes[image_id(path)]
    after = writer(predictor, names, out, threshold)
    rows: list[dict[str, Any]] = []
    people, done = 0, 0
    with progress("pictures", len(paths)) as step:
        for answer in stream(predictor, paths, after, batch, given=given):
            if answer.error is not None:
                bad += 1
                complain(answer.error)
            else:
                more, shown, line = answer.made
                rows += more
                people, done = people + shown, done + 1
                print(line)
            step()
    if done == 0:
        return 2
    if results is not None:
        write_whole(results, json.dumps(rows).encode())
    written = " and ".join(str(place) for place in (out, results) if place is not None)
    print(f"{counted(done, 'picture', 'pictures')}, {counted(people, 'person', 'people')} -> {written}")
    return 1 if bad else 0


def _with_ray(
    sources: Sequence[str], out: Path | None, results: Path | None, workers: int | None, threshold: float | None,
    model: str, runtime: str | None, device: str, flip: bool | None, detector: str | None, weights: Path | None,
    batch: int | None,
) -> int:  # fmt: skip
    """`predict --ray`: JSON lines in shards."""
    from edgepose import shards
    from edgepose.card import Card
    from edgepose.codecs.bottomup import BottomUp
    from edgepose.runtimes import cpus
    from edgepose.weights import find

    if results is not None or (detector is not None and detector.endswith(".json")):
        raise ValueError("--ray writes JSON lines to --out, and takes neither --results nor boxes from a file")
    if out is None:
        raise ValueError("--ray needs --out, a folder for its shards")
    paths, bad = found(sources)
    if not paths:
        return 2
    if threshold is None:
        whole = weights is None and isinstance(Card.read(find(model)).codec, BottomUp)
        threshold = WHOLE if whole else TWO_LOOKS
    at = None if weights is None else str(weights.absolute())
    where = str(Path(model).absolute()) if Path(model).is_dir() else model
    job = shards.Job(where, runtime, device, flip, detector, at, threshold, batch)
    total = shards.run(job, paths, out, workers or cpus())
    problems = f", {counted(total['errors'], 'error', 'errors')} (in the shards)" if total["errors"] else ""
    people, pictures = counted(total["people"], "person", "people"), counted(total["pictures"], "picture", "pictures")
    print(f"{pictures}, {people} -> {out}{problems}")
    return 2 if total["errors"] == total["pictures"] else 1 if bad or total["errors"] else 0


def found(sources: Sequence[str]) -> tuple[list[Path], int]:
    """The pictures of `sources`, without repeats, and how many sources have none: one line on stderr for each."""
    from edgepose.sources import find, unique

    bad, paths = 0, []
    for source in sources:
        try:
            paths += find(source)
        except ValueError as error:
            bad += 1
            complain(error)
    return unique(paths), bad


def writer(predictor: Predictor, names: dict[Path, str], out: Path | None, threshold: float | None) -> After:
    """What to do with each picture's poses: draw and write them to `out` under its name; gives the rows of COCO's
    results format, the number of people that score enough, and the line to print."""
    from edgepose.draw import draw
    from edgepose.evaluate import coco_results
    from edgepose.results import image_id, jpeg, plain, write_whole

    least = threshold if threshold is not None else TWO_LOOKS if predictor.detect else WHOLE

    def write(path: Path, image: Image, poses: Poses) -> tuple[list[dict[str, Any]], int, str]:
        shown = poses[poses.person_scores >= least]  # type: ignore[operator]
        if out is not None:
            write_whole(out / f"{names[path]}.jpg", jpeg(draw(image, shown), path))
            text = json.dumps(plain(shown, path, image, predictor.card.model))
            write_whole(out / f"{names[path]}.json", text.encode())
        scores = ", ".join(f"{s:.2f}" for s in sorted(shown.person_scores, reverse=True)[:8])  # type: ignore[arg-type]
        line = f"{path}: {counted(len(shown), 'person', 'people')}" + (f" ({scores})" if len(shown) else "")
        return coco_results(poses, image_id(path)), len(shown), line

    return write
