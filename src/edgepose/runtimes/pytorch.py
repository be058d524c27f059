"""PyTorch: the state dict as safetensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgepose import models
from edgepose.card import Card
from edgepose.codecs import Batch, Maps, Run
from edgepose.runtimes import need, whole

SUFFIX = "safetensors"
EXTRA, READS, WRITES = "train", ("torch", "safetensors"), ("torch", "safetensors")
FREE, LAYOUT, PEAKS = True, "nchw", False


def write(card: Card, network: Any, path: str | Path, half: bool = False) -> None:
    """Save the state dict of a torch module; `half` stores float32 tensors as float16."""
    need("train", "torch", "safetensors")
    import torch
    from safetensors.torch import save

    state = {k: v.detach().cpu().contiguous().clone() for k, v in network.state_dict().items()}
    if half:
        state = {k: v.half() if v.dtype == torch.float32 else v for k, v in state.items()}
    with whole(path) as part:
        part.write_bytes(save(state))


def read(card: Card, path: str | Path, device: str = "cpu", threads: int | None = None) -> Run:
    """The network with the weights in `path`, on `device` ("cpu", "cuda", "cuda:1", "mps").

    `threads` sets torch's number for the whole process. `ValueError` for an unusable file or device.
    """
    need("train", "torch", "safetensors")
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    net = models.build(card)
    try:
        net.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise ValueError(f"cannot use {path}: {' '.join(str(error).split())[:300]}") from error
    return placed(net, device, threads)


def placed(net: Any, device: str = "cpu", threads: int | None = None) -> Run:
    """The `Run` of a torch network, put in eval mode on `device`; see `read`."""
    import torch

    if threads:
        torch.set_num_threads(threads)
    try:
        net = net.eval().to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"no device {device!r} in this torch: {str(error).splitlines()[0]}") from error
    return runner(net, device)


def runner(net: Any, device: Any = "cpu") -> Run:
    """The `Run` of a torch network in eval mode that lies on `device`."""
    import torch

    def run(batch: Batch) -> Maps:
        with torch.inference_mode():
            images = torch.from_numpy(batch).to(device, memory_format=torch.channels_last)
            try:
                return [maps.float().contiguous().cpu().numpy() for maps in net(images)]
            except RuntimeError as error:
                raise ValueError(f"the network failed on a batch {batch.shape}: {str(error)[:300]}") from error

    return run
