"""TensorRT: NVIDIA's engine. A file holds for the kind of GPU and the version that made it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import _graph, compare, example, fixed_size, need, one_by_one, onnx, whole

SUFFIX = "engine"
EXTRA, READS, WRITES = "tensorrt", ("tensorrt", "torch"), ("tensorrt", "torch", "onnx")
FREE, LAYOUT, PEAKS = False, "nchw", False


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Build an engine from a torch module, by way of ONNX, on the GPU it is for; `half` stores weights as float16."""
    need(EXTRA, *WRITES)
    import tensorrt as trt  # pyright: ignore[reportMissingImports]

    (h, w), log = fixed_size(card, "tensorrt"), trt.Logger(trt.Logger.ERROR)
    _gpu("cuda")
    model = onnx.graph(card, network)
    if half:
        _graph.halve(model)
    builder = trt.Builder(log)
    net, config = builder.create_network(0), builder.create_builder_config()
    parser = trt.OnnxParser(net, log)
    if not parser.parse(model.SerializeToString()):
        raise ValueError(f"tensorrt cannot read this network: {parser.get_error(0)}")
    config.clear_flag(trt.BuilderFlag.TF32)
    profile = builder.create_optimization_profile()
    profile.set_shape("images", *[(1, 3, h, w)] * 3)
    config.add_optimization_profile(profile)
    made = builder.build_serialized_network(net, config)
    if made is None:
        raise ValueError(f"tensorrt cannot build {card.model} for this GPU")
    with whole(path) as part:
        part.write_bytes(bytes(made))
        compare(read(card, part, "cuda"), network.cpu().eval(), example((1, h, w)), 5e-2 if half else 1e-3)


def _gpu(device: str) -> Any:
    """The torch device; `ValueError` if it is no NVIDIA GPU of this machine."""
    import torch

    kind, _, number = device.partition(":")
    if kind != "cuda" or not (number or "0").isdecimal():
        raise ValueError(f"no device {device!r} for tensorrt: it is cuda, cuda:1, ...")
    if int(number or 0) >= torch.cuda.device_count():
        raise ValueError(f"tensorrt needs an NVIDIA GPU and a PyTorch with CUDA: there is no {device} here")
    return torch.device(device)


def read(card: Card, path: str | Path, device: str = "cuda", threads: int | None = None) -> Run:
    """The engine on an NVIDIA GPU ("cpu", the common default, is taken for the first).

    `ValueError` for an unusable file or device.
    """
    need(EXTRA, *READS)
    import tensorrt as trt  # pyright: ignore[reportMissingImports]
    import torch

    place = _gpu("cuda" if device == "cpu" else device)
    with torch.cuda.device(place):
        engine = trt.Runtime(trt.Logger(trt.Logger.ERROR)).deserialize_cuda_engine(Path(path).read_bytes())
        if engine is None:
            raise ValueError(f"cannot use {path}: made by another TensorRT ({trt.__version__} here), or broken")
        context = engine.create_execution_context()
    names = [engine.get_tensor_name(i) for i in range(engine.num_io_tensors)]
    ends = sorted(name for name in names if name != "images")

    def run(batch: Batch) -> Maps:
        with torch.cuda.device(place):
            images = torch.from_numpy(batch).to(place)
            context.set_input_shape("images", tuple(images.shape))
            found = {name: torch.empty(tuple(context.get_tensor_shape(name)), device=place) for name in ends}
            for name, tensor in {"images": images, **found}.items():
                context.set_tensor_address(name, tensor.data_ptr())
            stream = torch.cuda.current_stream(place)
            if not context.execute_async_v3(stream.cuda_stream):
                raise ValueError(f"the network failed on a batch {batch.shape}")
            stream.synchronize()
            return [found[name].cpu().numpy() for name in ends]

    return one_by_one(run, fixed_size(card, "tensorrt"))
