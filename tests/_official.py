"""Released networks, known by their key lists and golden outputs in ../shared; their weights are made by a rule."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np


def shapes(shared: Path, name: str) -> dict[str, tuple[int, ...]]:
    """Key -> shape of the released checkpoint `name`, in its order."""
    lines = (shared / "checkpoints" / f"{name}.txt").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line and not line.startswith("#")]
    return {key: tuple(int(n) for n in shape.split(",") if n) for key, shape in rows}


def parameters(shared: Path, name: str) -> int:
    """The number of learned values that the head of the key list states."""
    head = (shared / "checkpoints" / f"{name}.txt").read_text().splitlines()[0]
    return int(head.split(" parameters")[0].split()[-1])


def weights(shared: Path, name: str) -> dict:
    """A state dict with the keys of `name`, its values drawn by the rule of golden/README.md."""
    import torch

    return {key: torch.from_numpy(np.asarray(_value(key, shape))) for key, shape in shapes(shared, name).items()}


def _value(key: str, shape: tuple[int, ...]) -> np.ndarray:
    rng = np.random.default_rng(zlib.crc32(key.encode()))
    if key.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if key.endswith("running_var") or (key.endswith("weight") and len(shape) == 1):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    if key.endswith(("bias", "running_mean")) or len(shape) <= 1:
        return (0.1 * rng.standard_normal(shape)).astype(np.float32)
    return (rng.standard_normal(shape) * np.sqrt(1 / np.prod(shape[1:]))).astype(np.float32)


def check_layout(shared: Path, name: str, module) -> None:
    """The checkpoint's shapes give an arch whose network has its keys in its order, its shapes and its parameters."""
    import torch

    meta = {key: torch.empty(shape, device="meta") for key, shape in shapes(shared, name).items()}
    state = module.native(meta)
    with torch.device("meta"):
        net = module.build(module.infer(state))
    assert {k: v.shape for k, v in net.state_dict().items()} == {k: v.shape for k, v in state.items()}
    assert list(net.state_dict()) == list(state)
    assert sum(p.numel() for p in net.parameters()) == parameters(shared, name)


def check_golden(shared: Path, name: str, module) -> None:
    """The network gives the maps of the authors' code on weights and an input made by rule (relative error < 1e-5)."""
    import torch

    golden = np.load(shared / "golden" / "networks.npz")
    state = module.native(weights(shared, name))
    net = module.build(module.infer(state)).eval()
    net.load_state_dict(state)
    h, w = golden[f"{name}/input"]
    with torch.inference_mode():
        outputs = net(torch.from_numpy(np.random.default_rng(7).standard_normal((1, 3, h, w)).astype(np.float32)))
    assert len(outputs) == sum(key.startswith(f"{name}/") and key.endswith("/shape") for key in golden.files)
    for i, out in enumerate(outputs):
        flat, sample = out.numpy().ravel(), golden[f"{name}/{i}/sample"]
        assert out.shape == tuple(golden[f"{name}/{i}/shape"])
        found = flat[np.linspace(0, flat.size - 1, 4096).astype(int)]
        assert np.linalg.norm(found - sample) < 1e-5 * np.linalg.norm(sample)
        assert abs(np.linalg.norm(flat) / golden[f"{name}/{i}/norm"] - 1) < 1e-5
