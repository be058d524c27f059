"""The command line, made from the signatures of the functions below. Exit codes: 0 done, 1 some pictures failed,
2 nothing could be done (one line says why), 130 stopped with Ctrl-C. Results go to stdout, all else to stderr."""

from __future__ import annotations

import importlib
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from edgepose import __version__
from edgepose.catalogue import models
from edgepose.predict import predict
from edgepose.terminal import complain
from edgepose.weights import bundled

EXTRAS = {
    "train": ("torch", "lightning-fabric", "safetensors", "faster-coco-eval", "scipy", "matplotlib", "tensorboard"),
    "export": ("torch", "onnx", "onnxscript", "safetensors"),
    "ray": ("ray", "pandas", "pyarrow", "fsspec"),
}


# ── info, import ─────────────────────────────────────────────────────────────────────────────────────────────


def info() -> int:
    """Say what this installation can do, and which extras are missing."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from edgepose.fastest import lines
    from edgepose.folder import entry, names
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
    for name in (n for n in names("edgepose.runtimes") if n != "onnx"):
        engine = entry("edgepose.runtimes", name)
        found = {module: installed(module.split(".")[0]) for module in engine.READS}
        missing = [module for module, has in found.items() if has is None]
        line = ", ".join(f"{module} {has}" for module, has in found.items())
        if missing:
            line = f'absent: pip install "edgepose[{engine.EXTRA}]"'
        print(f"runtime {name}: {line or engine.state()}")
    for line in lines():
        print(f"fastest engine: {line}")
    for extra, packages in EXTRAS.items():
        missing = [package for package in packages if installed(package) is None]
        line = f'missing {", ".join(missing)}: pip install "edgepose[{extra}]"' if missing else "installed"
        print(f"extra {extra}: {line}")
    return 0


def import_(
    file: tyro.conf.Positional[Path],
    out: Path,
    input_size: Annotated[str | None, tyro.conf.arg(name="input", metavar="HxW")] = None,
    decode: Annotated[str | None, tyro.conf.arg(metavar="shift|dark|udp")] = None,
) -> int:
    """Turn a released checkpoint of a known network into a model folder (needs the extra `export`).

    Args:
        file: the checkpoint (.pth, .safetensors).
        out: the model folder to make.
        input_size: height and width of the network's input in pixels, where it is not the usual one or not known.
        decode: how the peaks of crops are read, where the network was not trained as published (MMPose's udp and dark).
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
    card = import_checkpoint(file, out, size, decode)
    print(f"{card.model} with {len(card.codec.skeleton)} joints -> {out}")
    return 0


# ── eval and train: functions of other files that need extras, imported only when one of them is called ──────────────

LATE = {  # command -> module, function, what it must be able to import, line for `edgepose --help`
    "eval": ("edgepose.evaluate", "eval_", ("faster_coco_eval", "matplotlib"), "Measure a model on labelled data."),
    "bench": ("edgepose.bench", "bench", (), "Time models and engines side by side."),
    "errors": ("edgepose.errors", "errors", ("faster_coco_eval", "matplotlib"), "Sort the errors of a model by kind."),
    "explain": ("edgepose.explain", "explain", ("torch", "matplotlib"), "Draw the parse graph of a model with RMPG."),
    "train": ("edgepose.runs", "run", ("torch", "lightning_fabric"), "Train a network by a recipe."),
    "search": ("edgepose.search.run", "run", ("torch", "lightning_fabric"), "Find the best network within a budget."),
    "recalibrate": ("edgepose.recalibrate", "run", ("torch",), "Measure the BatchNorm statistics of a model anew."),
    "export": ("edgepose.export", "export", (), "Make a model folder for another engine, with a certificate."),
    "verify": ("edgepose.certificate", "verify", (), "Repeat an exported model's certificate on this machine."),
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
        if args[:1] in (["train"], ["search"]):  # their flags have the values of the recipe that is named
            from edgepose.runs import command

            commands[args[0]], args = command(args, commands[args[0]])
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
