"""Stacked hourglasses (ECCV 2016), one person a crop, every stack supervised.

edgepose train hourglass-8 --root MPII --out RUN --devices 2
edgepose train hourglass-52 --root COCO --out RUN --devices 8

The scores of others: MPII test PCKh@0.5, eight stacks: 90.9 (paper); COCO val2017, one stack of 52 layers, 256x256:
72.6 AP (MMPose). The paper trained with RMSprop at 2.5e-4; these recipes take Adam, as MMPose does. Not run here.
"""

from typing import Any

from edgepose.recipes._official import COCO, COCO_PERSON, HRNET, MPII, MPII_PERSON

_PLAN: dict[str, Any] = {**HRNET, "lr": 5e-4, "warmup": 500, "batch": 256}
_FEW: dict[str, Any] = {**_PLAN, "batch": 64}

RECIPES = {
    **{n: MPII(f"hourglass-{n}", person=MPII_PERSON, **_FEW) for n in ("1", "2", "4", "8")},
    "52": COCO("hourglass-52", person=COCO_PERSON, **_PLAN),
    "52-mpii": MPII("hourglass-52-mpii", person=MPII_PERSON, **_PLAN),
}
