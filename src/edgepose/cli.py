"""The command line, made from the signatures of the functions below. Exit codes: 0 done, 1 some pictures failed,
2 nothing could be done (one line says why), 130 stopped with Ctrl-C. Results go to stdout, all else to stderr."""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import tyro

from edgepose import __version__
from edgepose.catalogue import models
from edgepose.weights import DEFAULT, bundled

# scores from which people are in pictures and plain JSON: of all joints' mean, or of two looks (chosen on photographs)
WHOLE, TWO_LOOKS = 0.15, 0.35
EXTRAS = {
    "train": ("torch", "lightning-fabric", "safetensors", "faster-coco-eval", "scipy", "matplotlib", "tensorboard"),
    "export": ("torch", "onnx", "onnxscript", "safetensors"),
}


# ── predict ──────────────────────────────────────────────────────────────────────────────────────────────────────────


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
    detector: Annotated[str | None, tyro.conf.arg(metavar="NAME|FOLDER")] = None,
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
        runtime: onnx, pytorch or binary; by default onnx where the model has it.
        threads: CPU threads of the network; by default all.
        no_flip: do not look at the mirrored picture as well; faster, less accurate.
        detector: the model that finds the people for one that looks at one person at a time.
    """
    from edgepose.draw import draw
    from edgepose.evaluate import coco_results
    from edgepose.predictor import load
    from edgepose.results import check_outputs, image_id, jpeg, plain, write_whole
    from edgepose.sources import find, read_image, stems, unique

    if not sources:
        raise ValueError("name a picture, a folder or a glob (see `edgepose predict --help`)")
    if out is None and results is None:
        out = Path("edgepose-out")
    predictor = load(model, runtime, device, threads, False if no_flip else None, detector)
    least = threshold if threshold is not None else TWO_LOOKS if predictor.detect else WHOLE
    bad, found = 0, []
    for source in sources:
        try:
            found += find(source)
        except ValueError as error:
            bad += 1
            complain(error)
    paths = unique(found)
    names = stems(paths)
    check_outputs(paths, names, out, results)
    rows: list[dict[str, Any]] = []
    people, done = 0, 0
    with _progress(len(paths)) as step:
        for path, name in zip(paths, names, strict=True):
            try:
                image = read_image(path)
                poses = predictor(image)
            except (ValueError, MemoryError) as error:
                bad += 1
                complain(error if isinstance(error, ValueError) else f"{path}: not enough memory")
                step()
                continue
            rows += coco_results(poses, image_id(path))
            shown = poses[poses.person_scores >= least]  # type: ignore[operator]
            if out is not None:
                write_whole(out / f"{name}.jpg", jpeg(draw(image, shown), path))
                write_whole(out / f"{name}.json", json.dumps(plain(shown, path, image, predictor.card.model)).encode())
            people, done = people + len(shown), done + 1
            scores = ", ".join(f"{s:.2f}" for s in sorted(shown.person_scores, reverse=True)[:8])  # type: ignore[arg-type]
            print(f"{path}: {_count(len(shown), 'person', 'people')}" + (f" ({scores})" if len(shown) else ""))
            step()
    if done == 0:
        return 2
    if results is not None:
        write_whole(results, json.dumps(rows).encode())
    written = " and ".join(str(place) for place in (out, results) if place is not None)
    print(f"{_count(done, 'picture', 'pictures')}, {_count(people, 'person', 'people')} -> {written}")
    return 1 if bad else 0


@contextmanager
def _progress(total: int) -> Iterator[Callable[[], None]]:
    """A progress bar on stderr, where that is a terminal and there is more than one picture."""
    if total < 2 or not sys.stderr.isatty():
        yield lambda: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("pictures"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    with Progress(*columns, console=console, redirect_stdout=sys.stdout.isatty(), transient=True) as bar:
        task = bar.add_task("", total=total)
        yield lambda: bar.advance(task)


# ── info, import ─────────────────────────────────────────────────────────────────────────────────────────────


def info() -> int:
    """Say what this installation can do, and which extras are missing."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from edgepose.runtimes import cpus

    def installed(package: str) -> str | None:
        try:
            return version(package)
        except PackageNotFoundError:
            return None

    print(f"edgepose {__version__}, Python {platform.python_version()}, {platform.system()} {platform.machine()}")
    print(f"CPUs usable: {cpus()}")
    print(f"bundled models: {', '.join(bundled()) or 'none'}")
    for package in ("numpy", "opencv-python-headless", "onnxruntime"):
        print(f"{package} {installed(package) or 'missing'}")
    import onnxruntime

    devices = ["cpu"] + ["cuda"] * ("CUDAExecutionProvider" in onnxruntime.get_available_providers())
    print(f"runtime onnx: predicts on {' and '.join(devices)}")
    torch = installed("torch")
    print(f"runtime pytorch: {f'torch {torch}' if torch else 'absent'}")
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if installed(package) is None]
        line = f'missing {", ".join(missing)}: pip install "edgepose[{extra}]"' if missing else "installed"
        print(f"extra {extra}: {line}")
    return 0


def import_(
    file: tyro.conf.Positional[Path],
    out: Path,
    input_size: Annotated[str | None, tyro.conf.arg(name="input", metavar="HxW")] = None,
) -> int:
    """Turn a released checkpoint of a known network into a model folder (needs the extra `export`).

    Args:
        file: the checkpoint (.pth, .safetensors).
        out: the model folder to make.
        input_size: height and width of the network's input in pixels, where it is not the usual one or not known.
    """
    from edgepose.runtimes import need

    need("export", "torch", "safetensors", "onnx", "onnxscript")
    from edgepose.importer import import_checkpoint

    size = None
    if input_size is not None:
        match = re.fullmatch(r"(\d+)[xX](\d+)", input_size)
        if not match:
            raise ValueError(f"--input is height x width, as in 256x256; got {input_size!r}")
        size = (int(match[1]), int(match[2]))
    if not file.is_file():
        raise ValueError(f"no such file: {file}")
    card = import_checkpoint(file, out, size)
    print(f"{card.model} with {len(card.codec.skeleton)} joints -> {out}")
    return 0


# ── eval and train: functions of other files that need extras, imported only when one of them is called ──────────────

LATE = {  # command -> module, function, what it must be able to import, line for `edgepose --help`
    "eval": ("edgepose.evaluate", "eval_", ("faster_coco_eval", "matplotlib"), "Measure a model on labelled data."),
    "errors": ("edgepose.errors", "errors", ("faster_coco_eval", "matplotlib"), "Sort the errors of a model by kind."),
    "train": ("edgepose.runs", "run", ("torch", "lightning_fabric"), "Train a network by a recipe."),
    "recalibrate": ("edgepose.recalibrate", "run", ("torch",), "Measure the BatchNorm statistics of a model anew."),
    "data check": ("edgepose.check", "run", (), "Check a labelled data set and draw its labels."),
    "data convert": ("edgepose.convert", "run", (), "Convert labels: COCO, YOLO, CVAT, Label Studio."),
}
GROUPS = {"data": "Check a data set (`edgepose data check`), or convert its labels (`edgepose data convert`)."}


def _late(command: str, called: bool) -> Callable[..., Any]:
    """The function behind `command`, or, where another command was called, one that only lends its help line."""
    module, name, needs, about = LATE[command]
    if called:
        from edgepose.runtimes import need

        need("train", *needs)
        return getattr(importlib.import_module(module), name)
    extra = "needs the extra `train`; " if needs else ""
    return _stand_in(f"{about} ({extra}`edgepose {command} --help`)", command)


def _stand_in(about: str, command: str) -> Callable[[], int]:
    def stand_in() -> int:
        raise ValueError(f"see `edgepose {command} --help`")

    stand_in.__doc__ = about
    return stand_in


def _commands(args: Sequence[str]) -> dict[str, Callable[..., Any]]:
    """The commands by name; in a group, such as `edgepose data ...`, those of the group alone."""
    if args[:1] and args[0] in GROUPS:
        members = [c.split()[1] for c in LATE if c.split()[0] == args[0] and " " in c]
        return {name: _late(f"{args[0]} {name}", list(args[1:2]) == [name]) for name in members}
    named: dict[str, Callable[..., Any]] = {"predict": predict, "models": models, "info": info, "import": import_}
    named |= {name: _late(name, list(args[:1]) == [name]) for name in LATE if " " not in name}
    return named | {group: _stand_in(about, group) for group, about in GROUPS.items()}


# ── main ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line with `args` (default: those of the process) and return the exit code."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a broken picture is one line here, not one of OpenCV's too
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] in (["--version"], ["version"]):
        print(f"edgepose {__version__}")
        return 0
    try:
        commands, prog = _commands(args), "edgepose"
        if args[:1] == ["train"]:  # its flags have the values of the recipe that is named
            from edgepose.runs import command

            commands["train"], args = command(args)
        about = "2D human poses in pictures. `edgepose predict photo.jpg` is a start."
        if args and args[0] in GROUPS:
            prog, about, args = f"edgepose {args[0]}", GROUPS[args[0]], args[1:]
        code = tyro.extras.subcommand_cli_from_dict(commands, prog=prog, description=about, args=args or ["--help"])
        return int(code or 0)
    except KeyboardInterrupt:
        complain("stopped")
        return 130
    except BrokenPipeError:  # `edgepose models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        where = f" {error.filename}" if error.filename else ""
        complain(f"cannot use{where}: {error.strerror or error}")
    except ValueError as error:
        complain(error)
    return 2


def complain(problem: object) -> None:
    """One line on stderr."""
    print(f"edgepose: {' '.join(str(problem).split())}", file=sys.stderr)


def _count(n: int, one: str, many: str) -> str:
    return f"{n} {one if n == 1 else many}"
