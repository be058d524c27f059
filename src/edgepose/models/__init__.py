"""Networks: one file a paper. The file name is the first part of a model's name: `litepose-xs` -> litepose.py.

Such a file holds `Arch` (sizes, frozen), `build(arch)`, `codec(arch, skeleton, size)`, `native(state dict)` (released
weights under the file's own keys), `infer(state dict) -> Arch`, `load_imagenet(net, path)` and `ARCHS`: variant ->
(Arch, size). A size is that of the input in pixels: the short side for whole pictures, (w, h) for crops. `zoo.json`
lists all of them for machines without torch; after a change, rewrite it with `python -m edgepose.models`.
"""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from edgepose import folder
from edgepose.card import Card, typed
from edgepose.skeleton import SKELETONS, Skeleton

ZOO_FILE = Path(__file__).with_name("zoo.json")


def names() -> list[str]:
    """Every network that can be built, as "file-variant"; needs torch."""
    files = folder.names(__name__)
    return [f"{file}-{variant}" for file in files for variant in folder.entry(__name__, file).ARCHS]


def skeleton_of(joints: int) -> Skeleton:
    """The skeleton that published networks with so many joints have: COCO 17, MPII 16, CrowdPose 14.

    `ValueError` for another number.
    """
    for name in ("coco17", "mpii16", "crowdpose14"):
        if len(SKELETONS[name]) == joints:
            return SKELETONS[name]
    raise ValueError(f"{joints} joints; known are 17 (COCO), 16 (MPII) and 14 (CrowdPose)")


def card(name: str, skeleton: Skeleton | None = None) -> Card:
    """Card of the untrained network `name` at its published input size; needs torch.

    It has the joints of `skeleton`; unless given, those of the data set it was published for (COCO, or MPII for a few).
    Raises `ValueError` with the known names if there is no such network.
    """
    import torch

    from edgepose.models._operations import operations

    file, _, variant = name.partition("-")
    if name not in names():
        raise ValueError(folder.unknown("model", name, names()))
    module = folder.entry(__name__, file)
    arch, size = module.ARCHS[variant]
    skeleton = skeleton or skeleton_of(arch.joints)
    arch = replace(arch, joints=len(skeleton))
    with torch.device("meta"):
        found = operations(module.build(arch), input_hw(size))
    codec = module.codec(arch, skeleton, size)
    return Card(name, asdict(arch), codec, {}, found.params, found.gmacs, found.gmacs_paper, gops=found.gops)


def input_hw(size: int | tuple[int, int]) -> tuple[int, int]:
    """Height and width in pixels of the input that figures are given for: square where only the short side is fixed."""
    return (size, size) if isinstance(size, int) else (size[1], size[0])


def build(card: Card) -> Any:
    """The freshly initialised torch module that `card` describes; needs torch.

    `ValueError` names an unknown network or the field of the arch that does not fit it.
    """
    module = folder.entry(__name__, card.family)
    return module.build(typed(module.Arch, card.arch, "arch."))


def zoo() -> list[dict[str, Any]]:
    """Known networks, without torch: name, skeleton, joints, input (h, w), params, gmacs, gmacs_paper, gops, scores,
    licence. The scores are those the paper printed for its authors' weights.
    """
    return json.loads(ZOO_FILE.read_text())
