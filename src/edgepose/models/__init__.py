"""Networks: one file a paper. The file name is the first part of a model's name: `litepose-xs` -> litepose.py.

Such a file holds `Arch` (sizes, frozen), `build(arch)`, `infer(state dict) -> Arch` and `ARCHS`: variant -> (Arch, side
of the square input in pixels). `zoo.json` lists all of them for machines without torch; after a change, rewrite it with
`python -m edgepose.models`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgepose import folder
from edgepose.card import Card, typed
from edgepose.codecs.bottomup import BottomUp
from edgepose.skeleton import COCO17, Skeleton

ZOO_FILE = Path(__file__).with_name("zoo.json")


def names() -> list[str]:
    """Every network that can be built, as "file-variant"; needs torch."""
    files = folder.names(__name__)
    return [f"{file}-{variant}" for file in files for variant in folder.entry(__name__, file).ARCHS]


def card(name: str, skeleton: Skeleton = COCO17) -> Card:
    """Card of the untrained network `name` for the joints of `skeleton`, at its published input size; needs torch.

    Raises `ValueError` with the known names if there is no such network.
    """
    import torch

    from edgepose.cost import cost

    file, _, variant = name.partition("-")
    if name not in names():
        raise ValueError(folder.unknown("model", name, names()))
    module = folder.entry(__name__, file)
    arch, size = module.ARCHS[variant]
    arch = replace(arch, joints=len(skeleton))
    with torch.device("meta"):
        found = cost(module.build(arch), (size, size))
    codec = BottomUp(skeleton, size)
    return Card(name, asdict(arch), codec, {}, found.params, found.gmacs, found.gmacs_paper)


def build(card: Card) -> Any:
    """The freshly initialised torch module that `card` describes; needs torch.

    `ValueError` names an unknown network or the field of the arch that does not fit it.
    """
    module = folder.entry(__name__, card.family)
    return module.build(typed(module.Arch, card.arch, "arch."))


def zoo() -> list[dict[str, Any]]:
    """Known networks, without torch: name, skeleton, joints, input (h, w), params, gmacs, gmacs_paper, scores, licence.

    The scores are those the paper printed for its authors' weights.
    """
    return json.loads(ZOO_FILE.read_text())
