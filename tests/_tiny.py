"""A model whose answers are known: its heatmaps are the colours of the picture (head red, neck green, pelvis blue)."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from edgepose.card import Card
from edgepose.codecs import MEAN, STD
from edgepose.codecs.bottomup import BottomUp
from edgepose.skeleton import Skeleton

SKELETON = Skeleton("three", ("head", "neck", "pelvis"), (("head", "neck"), ("neck", "pelvis")), (0.05, 0.05, 0.05))


def graph(half: bool = False):
    """Colours -> (n, 6, h/4, w/4) heatmaps and zero tags, and (n, 3, h/2, w/2) heatmaps, as an ONNX model."""
    from onnx import TensorProto, helper, numpy_helper

    node, array = helper.make_node, numpy_helper.from_array
    weights = [array(STD.reshape(1, 3, 1, 1), "std"), array(MEAN.reshape(1, 3, 1, 1), "mean")]
    weights += [array(np.float32(0), "zero"), array(np.float32(1), "one")]
    nodes = [
        node("Mul", ["images", "std"], ["scaled"]),
        node("Add", ["scaled", "mean"], ["shifted"]),
        node("Clip", ["shifted", "zero", "one"], ["colours"]),
        node("AveragePool", ["colours"], ["heat4"], kernel_shape=[4, 4], strides=[4, 4]),
        node("AveragePool", ["colours"], ["maps1"], kernel_shape=[2, 2], strides=[2, 2]),
        node("Mul", ["heat4", "zero"], ["tags"]),
        node("Concat", ["heat4", "tags"], ["maps0"], axis=1),
    ]
    value = lambda name, c: helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", c, None, None])  # noqa: E731
    body = helper.make_graph(nodes, "tiny", [value("images", 3)], [value("maps0", 6), value("maps1", 3)], weights)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def model(folder: Path) -> Path:
    """Write the model folder."""
    import onnx

    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(graph(), folder / "model.onnx")
    codec = BottomUp(SKELETON, 256)
    Card("litepose-xs", {}, codec, {"onnx": "model.onnx"}, params=7).write(folder)
    return folder


def picture(joints, size=(320, 240), sigma: float = 5.0) -> np.ndarray:
    """RGB uint8 picture (w, h) = size with one red, one green and one blue blob at `joints` ((x, y), ...)."""
    w, h = size
    y, x = np.mgrid[:h, :w]
    blobs = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * sigma**2)) for px, py in joints]
    return np.round(255 * np.stack(blobs, -1)).astype(np.uint8)


def write(path: Path, rgb: np.ndarray, *options: int) -> Path:
    """Write RGB as whatever the suffix says."""
    ok, data = cv2.imencode(path.suffix, rgb[..., ::-1] if rgb.ndim == 3 else rgb, list(options))
    assert ok
    path.write_bytes(data.tobytes())
    return path


def litepose():
    """A small LitePose with batch statistics that matter, and its card (no weights)."""
    from dataclasses import asdict

    import torch

    from edgepose.models import litepose

    torch.manual_seed(0)
    arch = litepose.Arch(3, 8, (8, 8, 8, 8), (1, 1, 2, 1), kernels=(3, 5, 3, 3), deconv_channels=(8, 8, 8))
    network = litepose.build(arch).eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 2)
            module.weight.data.uniform_(0.5, 1.5)
            module.bias.data.uniform_(-0.2, 0.2)
    return network, Card("litepose-xs", asdict(arch), BottomUp(SKELETON, 128))


BLOCK = """
import sys
class Block:
    names = {"torch", "onnx", "onnxscript", "safetensors", "scipy", "PIL", "lightning_fabric", "faster_coco_eval"}
    names |= {"matplotlib", "pycocotools"}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}")
sys.meta_path.insert(0, Block())
"""  # makes a fresh Python behave as if only the core were installed


def batch(n: int, h: int, w: int) -> np.ndarray:
    """Normally distributed pixels (n, 3, h, w) float32."""
    return np.random.default_rng(n + h + w).standard_normal((n, 3, h, w), np.float32)
