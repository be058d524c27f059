"""Core ML: Apple's engine. Files are made anywhere and run on macOS alone, so elsewhere they are not checked."""

from __future__ import annotations

import platform
import warnings
from pathlib import Path
from typing import Any

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import compare, example, fixed_size, need, one_by_one, silent, whole

SUFFIX = "mlpackage"
EXTRA, READS, WRITES = "coreml", ("coremltools",), ("torch", "coremltools")
FREE, LAYOUT, PEAKS = False, "nchw", False


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Export a torch module for single pictures of the codec's one size; `half` stores and computes in float16."""
    need(EXTRA, *WRITES)
    import coremltools as ct  # pyright: ignore[reportMissingImports]
    import torch

    h, w = fixed_size(card, "coreml")
    network, images = network.cpu().eval(), example((1, h, w))
    precision = ct.precision.FLOAT16 if half else ct.precision.FLOAT32
    with whole(path) as part, torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        names = [ct.TensorType(name=f"maps{i}") for i in range(len(network(images)))]
        traced = torch.jit.trace(network, images, check_trace=False)
        with silent():
            made: Any = ct.convert(
                traced, inputs=[ct.TensorType(name="images", shape=tuple(images.shape))], outputs=names,
                compute_precision=precision, minimum_deployment_target=ct.target.iOS16, skip_model_load=True,
            )  # fmt: skip
        made.save(str(part))
        if platform.system() == "Darwin":
            compare(read(card, part), network, images, 5e-2 if half else 1e-3)


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """The model on "cpu", "gpu" or "npu" (with the CPU beside it); Core ML chooses its threads. `ValueError` for an
    unusable file or device, and on any system but macOS.
    """
    if platform.system() != "Darwin":
        raise ValueError(
            f"coreml runs on macOS alone, this is {platform.system()}: the folder is complete all the same"
        )
    need(EXTRA, *READS)
    import coremltools as ct  # pyright: ignore[reportMissingImports]

    units = {"cpu": ct.ComputeUnit.CPU_ONLY, "gpu": ct.ComputeUnit.CPU_AND_GPU, "npu": ct.ComputeUnit.CPU_AND_NE}
    if device not in units:
        raise ValueError(f"no device {device!r} for coreml: it is one of {', '.join(units)}")
    try:
        model: Any = ct.models.MLModel(str(path), compute_units=units[device])
        names = [output.name for output in model.get_spec().description.output]
    except Exception as error:  # of many kinds
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:300]}") from error

    def run(batch: Batch) -> Maps:
        found = model.predict({"images": batch})
        return [found[name] for name in sorted(names)]

    return one_by_one(run, fixed_size(card, "coreml"))
