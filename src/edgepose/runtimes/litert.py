"""LiteRT (TensorFlow Lite): phones, boards and their accelerators, made through litert-torch. It works in nhwc."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import compare, cpus, example, fixed_size, need, one_by_one, silent, whole

SUFFIX = "tflite"
EXTRA, READS, WRITES = "litert", ("ai_edge_litert",), ("torch", "litert_torch", "ai_edge_litert")
FREE, LAYOUT, PEAKS = False, "nhwc", False


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Export a torch module for single pictures of the codec's one size; `half` stores weights as float16.

    Wide depthwise convolutions are split first (`_strips`).
    """
    need(EXTRA, *WRITES, *(("ai_edge_quantizer",) if half else ()))
    import litert_torch  # pyright: ignore[reportMissingImports]
    import torch

    from edgepose.runtimes._strips import split

    h, w = fixed_size(card, "litert")
    network, images = network.cpu().eval(), example((1, h, w))
    with whole(path) as part:
        with torch.no_grad(), silent():
            outputs = list(range(len(network(images))))
            nhwc = litert_torch.to_channel_last_io(split(network), args=[0], outputs=outputs).eval()
            litert_torch.convert(nhwc, (images.permute(0, 2, 3, 1).contiguous(),)).export(str(part))
            if half:
                _halve(part)
        compare(read(card, part, threads=1), network, images, 5e-2 if half else 1e-4)


def _halve(path: Path) -> None:
    """Store the weights of a file as float16, behind a dequantization to float32."""
    from ai_edge_quantizer import quantizer, recipe_manager  # pyright: ignore[reportMissingImports]

    manager = recipe_manager.RecipeManager()
    every = recipe_manager.qtyping.TFLOperationName.ALL_SUPPORTED
    key = recipe_manager.AlgorithmName.FLOAT_CASTING
    manager.add_weight_only_config(".*", every, num_bits=16, algorithm_key=key)
    made = quantizer.Quantizer(str(path), manager.get_quantization_recipe()).quantize(enable_progress_report=False)
    path.write_bytes(bytes(made.quantized_model))


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """An interpreter with XNNPACK on the CPU; `threads` is all CPUs this process may use unless given.

    `ValueError` for an unusable file or device.
    """
    need(EXTRA, *READS)
    from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

    if device != "cpu":
        raise ValueError(f"no device {device!r} for litert here: it is cpu")
    try:
        with silent():
            engine = Interpreter(str(path), num_threads=threads or cpus())
            engine.allocate_tensors()
    except (ValueError, RuntimeError) as error:
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:300]}") from error
    start, ends = engine.get_input_details()[0]["index"], engine.get_output_details()

    def run(batch: Batch) -> Maps:
        engine.set_tensor(start, np.ascontiguousarray(batch.transpose(0, 2, 3, 1)))
        engine.invoke()
        found = [engine.get_tensor(end["index"]) for end in ends]
        return [np.ascontiguousarray(maps.transpose(0, 3, 1, 2)) for maps in found]

    return one_by_one(run, fixed_size(card, "litert"))
