"""Recalibrate: the statistics of BatchNorm measured anew, with all other weights as they are.

Averaged weights, and binary ones above all, have other statistics than those that were averaged along with them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgepose import folder, models, weights
from edgepose.card import Card
from edgepose.codecs.topdown import TopDown
from edgepose.data import Record

CROPS = 32  # a batch


@torch.no_grad()
def statistics(net: nn.Module, batches: Iterable[Tensor]) -> int:
    """Set every BatchNorm of `net` to the mean of its statistics over `batches` (n, 3, h, w); `net` ends in eval mode.

    Returns how many batches there were; with none, nothing changes.
    """
    norms = [m for m in net.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm) and m.track_running_stats]
    rates, count = [norm.momentum for norm in norms], 0
    net.eval()
    for images in batches:
        for norm in norms:
            if not count:
                norm.reset_running_stats()
            norm.momentum = None  # the plain mean of all batches
            norm.train()
        net(images)
        count += 1
    for norm, rate in zip(norms, rates, strict=True):
        norm.momentum = rate
    net.eval()
    return count


def pictures(codec: Any, records: Sequence[Record], count: int) -> Iterator[Tensor]:
    """Batches as the network sees them when it predicts: `count` labelled people a crop each, or whole photographs."""
    codec, waiting = replace(codec, flip=False), []
    for record in records:
        if count <= 0:
            break
        crops, boxes = isinstance(codec, TopDown), record.truth.boxes
        if crops and (boxes is None or not len(boxes)):
            continue
        found = codec.encode(record.read(), boxes[:count] if crops else None)[0]  # type: ignore[index]
        if not crops:
            count -= 1
            yield from map(torch.from_numpy, found)
            continue
        count -= len(found[0])
        waiting.append(found[0])
        if sum(map(len, waiting)) >= CROPS or count <= 0:
            yield torch.from_numpy(np.concatenate(waiting))
            waiting = []
    if waiting:
        yield torch.from_numpy(np.concatenate(waiting))


def run(model: Path, root: Path, data: str, split: str, out: Path, samples: int = 2000, seed: int = 0) -> int:
    """Measure the BatchNorm statistics of a model folder anew, on photographs of a data set; its scores are dropped.

    Args:
        model: model folder with weights for pytorch.
        root: folder with the data sets.
        data: name of the data set, for example coco.
        split: part of it; take what the model was trained on.
        out: model folder to make.
        samples: people (for models that look at one at a time) or photographs.
        seed: which of them are taken.
    """
    if samples < 1:
        raise ValueError(f"--samples {samples}: at least one is needed")
    card = Card.read(model)
    net = load(model)
    if data not in folder.names("edgepose.data"):
        raise ValueError(folder.unknown("data set", data, folder.names("edgepose.data")))
    records = list(folder.entry("edgepose.data", data).read(root, split))
    order = np.random.default_rng(seed).permutation(len(records))
    if not statistics(net, pictures(card.codec, [records[i] for i in order], samples)):
        raise ValueError(f"{data} {split} of {root} has nothing to look at for this model")
    note = f"BatchNorm statistics of {samples} samples of {data} {split}"
    card = replace(card, notes="; ".join(filter(None, [card.notes, note])), scores={})
    runtimes = [name for name in card.weights if name in ("pytorch", "onnx")]
    weights.save(out, card, net, runtimes)
    print(f"{card.model} -> {out}")
    return 0


def load(path: str | Path) -> Any:
    """The network of the model folder at `path`, in eval mode; `ValueError` if it has no torch weights."""
    from safetensors.torch import load_file

    card = Card.read(path)
    if "pytorch" not in card.weights:
        raise ValueError(f"the model {path} has no weights for pytorch")
    net = models.build(card)
    try:
        net.load_state_dict(load_file(Path(path) / card.weights["pytorch"]))
    except (OSError, RuntimeError) as error:
        raise ValueError(f"the weights of {path} do not fit its card: {str(error).splitlines()[0]}") from error
    return net.eval()
