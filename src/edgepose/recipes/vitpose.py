"""ViTPose (NeurIPS 2022), one person a crop, from MAE weights.

edgepose train vitpose-b --root COCO --out RUN --init mae_pretrain_vit_base.pth --devices 8

The paper's scores, COCO val2017 with a detector's boxes, 256x192: S 73.8, B 75.8, L 78.3, H 79.1 AP. Eight A100 with
64 crops each, 210 epochs. Not run here.
"""

from typing import Any

from edgepose.data._persons import PersonAugment
from edgepose.recipes._official import COCO, HRNET

_PERSON = PersonAugment(scale=0.5, rotation=40.0, half_body=0.3, half_body_joints=8)
_PLAN: dict[str, Any] = {
    **HRNET,
    "batch": 512,
    "optimiser": "adamw",
    "lr": 5e-4,
    "weight_decay": 0.1,
    "warmup": 500,
    "clip": 1.0,
    "person": _PERSON,
}
_DECAY = {"s": 0.8, "b": 0.75, "l": 0.8, "h": 0.8}  # of the learning rate from block to block; s, h as MMPose has them

RECIPES = {
    f"{size}{head}": COCO(f"vitpose-{size}{head}", layer_decay=_DECAY[size], **_PLAN)
    for size in "sblh"
    for head in ("", "-simple")
}
