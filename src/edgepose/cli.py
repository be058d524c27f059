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
from edgepose.weights import BUNDLED, DEFAULT, bundled

THRESHOLD = 0.15  # of a person's score, which is the mean over all joints, for pictures and plain JSON
EXTRAS = {
    "train": ("torch", "lightning-fabric", "safetensors", "faster-coco-eval", "matplotlib", "tensorboard"),
    "export": ("torch", "onnx", "onnxscript", "safetensors"),
}


# ── predict ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def predict(
    sources: Annotated[tyro.conf.Positional[tuple[str, ...]], tyro.conf.arg(metavar="SOURCE...")],
    model: Annotated[str, tyro.conf.arg(metavar="NAME|FOLDER")] = DEFAULT,
    out: Annotated[Path | None, tyro.conf.arg(metavar="FOLDER")] = None,
    results: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    threshold: float = THRESHOLD,
    device: str = "cpu",
    runtime: Annotated[str | None, tyro.conf.arg(metavar="NAME")] = None,
    threads: Annotated[int | None, tyro.conf.arg(metavar="N")] = None,
    no_flip: tyro.conf.FlagCreatePairsOff[bool] = False,
) -> int:
    """Find the people in pictures. Without --out and --results, drawn pictures and JSON go to ./edgepose-out.

    Args:
        sources: pictures, folders of pictures, or quoted globs.
        model: name of a bundled model (see `edgepose models`) or a model folder.
        out: folder for a drawn picture (NAME.jpg) and a plain JSON (NAME.json) of each picture.
        results: file for everybody found, whatever the score, in COCO's results format.
        threshold: lowest score of the people that are drawn and written to the plain JSON.
        device: cpu or cuda.
        runtime: onnx or pytorch; by default onnx where the model has it.
        threads: CPU threads of the network; by default all.
        no_flip: do not look at the mirrored picture as well; faster, less accurate.
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
    predictor = load(model, runtime, device, threads, False if no_flip else None)
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
            shown = poses[poses.person_scores >= threshold]  # type: ignore[operator]
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


# ── models, info, import ─────────────────────────────────────────────────────────────────────────────────────────────


def models() -> int:
    """List the models: bundled ones, which are ready to use, and known architectures, which need weights."""
    from edgepose.card import Card
    from edgepose.models import zoo

    rows, here = [], set()
    for name in bundled():
        card = Card.read(BUNDLED / name)
        size: Any = card.codec
        here.add((name, card.codec.skeleton.name))
        rows.append(
            {"name": name + (" (default)" if name == DEFAULT else ""), "skeleton": card.codec.skeleton.name}
            | {"input": size.input_size, "params": card.params, "gmacs": card.gmacs, "gmacs_paper": card.gmacs_paper}
            | {"scores": card.scores, "licence": card.licence, "bundled": True}
        )
    table = _table("model", "joints", "input", "params", "GMACs", "GMACs, paper", "scores", "licence", "weights")
    for row in [*rows, *(known for known in zoo() if (known["name"], known["skeleton"]) not in here)]:
        size = row["input"] if isinstance(row["input"], (list, tuple)) else [row["input"]] * 2
        figures = [f"{name} {value:.3g}" for name, value in row["scores"].items() if isinstance(value, float)][:2]
        params = "" if row["params"] is None else f"{row['params'] / 1e6:.2f} M"
        costs = ["" if row[key] is None else f"{row[key]:.2f}" for key in ("gmacs", "gmacs_paper")]
        facts = [row["skeleton"], f"{size[0]}x{size[1]}", params, *costs, "\n".join(figures), row["licence"]]
        table.add_row(row["name"], *facts, "bundled" if row.get("bundled") else "none")
    _console().print(table)
    print("input: height x width in pixels; for whole pictures the shorter side, the longer follows the picture")
    print("GMACs: 1e9 multiply-adds at that input; paper: in the LitePose paper's counting, which gives more")
    return 0


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
    "eval": ("edgepose.evaluate", "eval_", ("faster_coco_eval",), "Measure a model on a labelled data set."),
    "train": ("edgepose.runs", "run", ("torch", "lightning_fabric"), "Train a network by a recipe."),
}


def _late(command: str, called: bool) -> Callable[..., Any]:
    """The function behind `command`, or, where another command was called, one that only lends its help line."""
    module, name, needs, about = LATE[command]
    if called:
        from edgepose.runtimes import need

        need("train", *needs)
        return getattr(importlib.import_module(module), name)

    def stand_in() -> int:
        raise ValueError(f"see `edgepose {command} --help`")

    stand_in.__doc__ = f"{about} (needs the extra `train`; `edgepose {command} --help`)"
    return stand_in


# ── main ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line with `args` (default: those of the process) and return the exit code."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "SILENT")  # a broken picture is one line here, not one of OpenCV's too
    args = list(sys.argv[1:] if args is None else args)
    if args[:1] in (["--version"], ["version"]):
        print(f"edgepose {__version__}")
        return 0
    commands: dict[str, Callable[..., Any]] = {"predict": predict, "models": models, "info": info, "import": import_}
    try:
        commands |= {name: _late(name, args[:1] == [name]) for name in LATE}
        if args[:1] == ["train"]:  # its flags have the values of the recipe that is named
            from edgepose.runs import command

            commands["train"], args = command(args)
        about = "2D human poses in pictures. `edgepose predict photo.jpg` is a start."
        code = tyro.extras.subcommand_cli_from_dict(
            commands, prog="edgepose", description=about, args=args or ["--help"]
        )
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


def _console() -> Any:
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 180, highlight=False)


def _table(*columns: str) -> Any:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE)
    for column in columns:
        table.add_column(column, justify="right" if column in ("params", "GMACs", "GMACs, paper") else "left")
    return table
