"""SimpleBaselines (ECCV 2018): ResNets and three deconvolutions, one person a crop.

edgepose train simplebaseline-r50 --root COCO --out RUN --init resnet50.pth --devices 4   # torchvision's weights
edgepose train simplebaseline-r18-small --root DATA --out RUN                             # two CPU cores

The paper's scores, COCO val2017 with its detector's boxes: R50 70.4, R101 71.4, R152 72.0 AP; MPII val PCKh@0.5: 88.5,
89.1, 89.6. The paper used four GPUs and does not state the hours. The large ones have not been run here; for the small
one see docs/training.md.
"""

from typing import Any

from edgepose.data._augment import Augment
from edgepose.data._persons import PersonAugment
from edgepose.recipes import Recipe
from edgepose.recipes._official import COCO, HRNET, MPII, MPII_PERSON
from edgepose.recipes._small import COCO_SMALL, LICENCE_SMALL

_XIAO: dict[str, Any] = {**HRNET, "epochs": 140.0, "milestones": (90 / 140, 120 / 140)}
_PERSON = PersonAugment(scale=0.3, rotation=40.0, half_body=0.0)

RECIPES = {
    **{r: COCO(f"simplebaseline-{r}", person=_PERSON, **_XIAO) for r in ("r50", "r101", "r152")},
    **{f"{r}-mpii": MPII(f"simplebaseline-{r}-256x256", person=MPII_PERSON, **_XIAO) for r in ("r50", "r101", "r152")},
    "r18-small": Recipe(
        "simplebaseline-r18",
        (("coco", "small"), ("lsp", "train")),
        (("coco", "train115"),),
        steps=1500,
        batch=32,
        optimiser="muon",
        lr=7e-4,
        decay=1.0,
        arch={"stem": 32, "deconv_channels": (96, 96, 96)},
        codec={"input_size": (96, 128)},
        augment=Augment(flip=0.5, occlusion=0.2, mosaic=0),
        person=PersonAugment(scale=0.25, rotation=30.0, half_body=0.1),
        focus=6.0,
        data=COCO_SMALL,
        licence=LICENCE_SMALL,
    ),
}
