"""Export: any model folder becomes one for another engine, with a certificate of what that changed in the poses."""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import FlagCreatePairsOff, Positional, arg

from edgepose import __version__, certificate, quantize
from edgepose.card import Card, Export
from edgepose.certificate import View
from edgepose.codecs import MEAN, STD
from edgepose.codecs.bottomup import BottomUp
from edgepose.folder import entry
from edgepose.origin import Source, batches, score_change, source, views
from edgepose.predictor import load
from edgepose.runtimes import need, silent
from edgepose.weights import find


def codec_for(card: Card, engine: Any, size: tuple[int, int] | None, dynamic: bool, decode: str) -> Any:
    """The codec of an export: that of `card` with the input `size` (h, w) and the decoder that were asked for.

    `ValueError` says what this engine or network cannot do.
    """
    codec: Any = card.codec
    name = engine.__name__.rsplit(".", 1)[1]
    if size and dynamic:
        raise ValueError("--input fixes the size, --dynamic leaves it open: give one of them")
    if isinstance(codec, BottomUp):
        if dynamic and not engine.FREE:
            raise ValueError(f"{name} takes inputs of one size: leave --dynamic out, or give --input HxW")
        if size and (size[0] % 64 or size[1] % 64 or min(size) < 64):
            raise ValueError(f"--input {size[0]}x{size[1]}: sides are multiples of 64 pixels, e.g. 256x256")
        if not size and not engine.FREE:
            size = (codec.input_size, codec.input_size)
    else:
        w, h = codec.input_size
        if dynamic or (size and size != (h, w)):
            raise ValueError(f"{card.model} takes crops of {h}x{w} alone: leave --input and --dynamic out")
        size = None
    if decode == "peaks":
        if not engine.PEAKS:
            raise ValueError(f"{name} runs convolutions only: leave --decode peaks out (onnx and openvino have it)")
        codec = replace(codec, flip=False, peaks_in_graph=False)
        codec = replace(codec, scales=(1.0,), refine=False) if isinstance(codec, BottomUp) else codec
        codec = replace(codec, peaks_in_graph=True)
    return replace(codec, canvas=size[::-1]) if size else codec


def versions(engine: Any) -> dict[str, str]:
    """Versions of edgepose and of the libraries that an engine's files are made with."""
    found = {"edgepose": __version__}
    for module in dict.fromkeys(m.split(".")[0] for m in (*engine.WRITES, *engine.READS)):
        try:
            found[module] = version(module)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def made_whole(out: Path) -> Iterator[Path]:
    """A folder to fill, which becomes `out` if the block ends well; `ValueError` if that is there and not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ValueError(f"{out} is there already: choose another --out, or remove it")
    part = out.with_name(f".{out.name}.{os.getpid()}")
    part.mkdir(parents=True)
    try:
        yield part
        if out.exists():
            out.rmdir()
        os.replace(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


@contextmanager
def one_line(runtime: str, model: str) -> Iterator[None]:
    """What a converter raises about a network it cannot take, as a `ValueError` in one line."""
    try:
        yield
    except (ValueError, OSError):
        raise
    except Exception as error:  # each converter has its own, some without a base class
        said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(f"{runtime} cannot take {model}: {said[:200]}") from error


def parsed(size: str | None) -> tuple[int, int] | None:
    """(height, width) from "HxW"; `ValueError` for anything else."""
    if size is None:
        return None
    match = re.fullmatch(r"(\d+)[xX](\d+)", size)
    if not match:
        raise ValueError(f"--input is height x width, as in 256x256; got {size!r}")
    return int(match[1]), int(match[2])


def export(
    model: Annotated[Positional[str], arg(metavar="NAME|FOLDER")],
    runtime: Annotated[str, arg(metavar="NAME")],
    out: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    half: FlagCreatePairsOff[bool] = False,
    int8: FlagCreatePairsOff[bool] = False,
    calibrate: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    input_size: Annotated[str | None, arg(name="input", metavar="HxW")] = None,
    dynamic: FlagCreatePairsOff[bool] = False,
    decode: Literal["none", "peaks"] = "none",
    pictures: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    data: str | None = None,
    root: Annotated[Path | None, arg(metavar="FOLDER")] = None,
    split: str = "val",
) -> int:
    """Make a model folder for another engine, with a certificate that compares its poses with the source's.

    Exit code 1 when it was made but does not keep the limits of its certificate.

    Args:
        model: name of a bundled model, or a model folder with pytorch or onnx weights.
        runtime: the engine: onnx, openvino, ncnn, litert, executorch, coreml or tensorrt.
        out: the folder to make; by default MODEL-RUNTIME here.
        half: store weights as float16.
        int8: compute in int8 (onnx, openvino, litert); layers that would spoil the maps stay in float, as sweep.csv and
            sweep.png show.
        calibrate: folder of photographs for --int8, like those the model will see; some dozens do.
        input_size: height and width of the input, for models of whole pictures, which are fitted into it.
        dynamic: leave the input's size open, which onnx and openvino do anyway.
        decode: none: the graph gives maps, all convolutions; peaks: it finds the peaks as well (onnx, openvino).
        pictures: folder of pictures for the certificate; by default three that come with edgepose.
        data: a labelled data set (coco, lsp, ...), whose figure the certificate then compares too (extra train).
        root: folder with that data set.
        split: part of that data set.
    """
    engine = entry("edgepose.runtimes", runtime)
    size = parsed(input_size)
    if (data is None) != (root is None):
        raise ValueError("a data set is named by both --data and --root")
    if int8 != (calibrate is not None) or (int8 and (half or decode == "peaks")):
        raise ValueError("--int8 and --calibrate FOLDER go together, without --half and --decode peaks")
    if int8 and runtime not in quantize.NEEDS:
        raise ValueError(f"{runtime} has no int8 here: {', '.join(quantize.NEEDS)} have")
    codec = codec_for(Card.read(find(model)), engine, size, dynamic, decode)
    with silent():  # some say things when they are imported
        need(engine.EXTRA, *engine.WRITES)
        if int8:
            need(quantize.NEEDS[runtime][0], *quantize.NEEDS[runtime][1])
    target = out or Path(f"{Path(model).name}-{runtime}" + "-int8" * int8)
    with made_whole(target) as part:
        canvas = codec.canvas if isinstance(codec, BottomUp) else codec.input_size
        given = source(model, (canvas[1], canvas[0]) if canvas and not engine.FREE else None)
        seen = views(given, codec, pictures)
        kind = "int8" if int8 else "float16" if half else "float32"
        card = _card(given, engine, codec, kind)
        say(f"{card.model} -> {runtime} ...")
        path = part / card.weights[runtime]
        if calibrate is None:
            with one_line(runtime, card.model):
                engine.write(card, given.network, path, half)
        else:
            seen_by_it = batches(given, codec, calibrate)
            with one_line(runtime, card.model):
                layers = quantize.quantized(runtime, card, given.network, path, seen_by_it)
            kept = quantize.leave(layers, part, f"{card.model}, {runtime}")
            print(f"int8: {len(layers) - len(kept)} of {len(layers)} convolutions, float: {', '.join(kept) or 'none'}")
            card = replace(card, export=card.export and replace(card.export, kept_float=tuple(kept)))
        card.write(part)
        passed = certify(given, part, seen, kind, (data, root, split))
    weights = [p for p in target.rglob("*") if p.is_file() and p.relative_to(target).parts[0].startswith("model")]
    total = sum(p.stat().st_size for p in weights)
    said = {True: "passed", False: "FAILED", None: "open: run `edgepose verify` where the engine runs"}[passed]
    print(f"{target}: {total / 1e6:.2f} MB, certificate {said}")
    return 1 if passed is False else 0


def _card(given: Source, engine: Any, codec: Any, kind: str) -> Card:
    """The card of the product."""
    name = engine.__name__.rsplit(".", 1)[1]
    mean, std = (codec.mean, codec.std) if not isinstance(codec, BottomUp) else (MEAN.tolist(), STD.tolist())
    size = codec.canvas if isinstance(codec, BottomUp) else codec.input_size
    made = Export(
        runtime=name, layout=engine.LAYOUT, input=None if size is None else (size[1], size[0]),
        mean=tuple(round(float(v), 6) for v in mean), std=tuple(round(float(v), 6) for v in std),
        decode="peaks" if codec.peaks_in_graph else "none", weights=kind,
        source=given.file.name, source_sha256=certificate.digest(given.file), versions=versions(engine),
    )  # fmt: skip
    return replace(given.card, codec=codec, weights={name: f"model.{engine.SUFFIX}"}, export=made)


def certify(
    given: Source, folder: Path, seen: Sequence[View], kind: str, data: tuple[str | None, Path | None, str]
) -> bool | None:
    """Compare the product in `folder` with its source, write its certificate and say what was found.

    Returns whether it passed, or None where the engine cannot run on this machine.
    """
    try:
        product = load(folder)
    except ValueError as error:
        print(f"not certified, because it cannot run here: {error}")
        return certificate.write(folder, kind, seen, None, {})[0]
    detect, product.detect = product.detect, None
    paired = not isinstance(product.codec, BottomUp)
    found = certificate.figures([v.poses for v in seen], certificate.looked(product, seen), paired)
    product.detect = detect
    extra = score_change(given, product, data[0], data[1], data[2]) if data[0] and data[1] else {}
    passed, faults = certificate.write(folder, kind, seen, found, extra)
    print(f"certificate: {found}")
    if extra:
        print(f"  {extra['on']} {extra['figure']}: {extra['source']:.4f} -> {extra['product']:.4f}")
    for fault in faults:
        print(f"  {fault}")
    return passed


def say(line: str) -> None:
    """A line of progress on stderr, where that is a terminal."""
    if sys.stderr.isatty():
        print(line, file=sys.stderr)
