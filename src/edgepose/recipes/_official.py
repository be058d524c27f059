"""What recipes on the official data sets share."""

from functools import partial
from typing import Any

from edgepose.data._augment import Augment
from edgepose.data._persons import PersonAugment
from edgepose.recipes import Recipe

LICENCE = "Apache-2.0; mind the terms of the training photographs (see data)"
COCO_DATA = "COCO train2017 (labels CC BY 4.0, photographs under Flickr terms)"
CROWDPOSE_DATA = "CrowdPose train and val (Li et al., CVPR 2019; for research)"
MPII_DATA = "MPII Human Pose train (Andriluka et al., CVPR 2014; Simplified BSD licence)"

FLIPPED = Augment(flip=0.5, colour=0, grey=0, blur=0, occlusion=0, mosaic=0)  # crops are only mirrored

COCO = partial(
    Recipe,
    photographs=(("coco", "train"),),
    validation=(("coco", "val"),),
    empty=0.0,
    data=COCO_DATA,
    licence=LICENCE,
    ema=0.0,
    clip=0.0,
)
CROWDPOSE = partial(
    COCO, photographs=(("crowdpose", "trainval"),), validation=(("crowdpose", "test"),), data=CROWDPOSE_DATA
)
MPII = partial(COCO, photographs=(("mpii", "train"),), validation=(("mpii", "val"),), data=MPII_DATA)

# HRNet (CVPR 2019) and after it: Adam, a tenth of the rate at 170 and 200 of 210 epochs
HRNET: dict[str, Any] = {
    "epochs": 210.0,
    "batch": 128,
    "optimiser": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "warmup": 0,
    "schedule": "step",
    "milestones": (170 / 210, 200 / 210),
    "augment": FLIPPED,
}
COCO_PERSON = PersonAugment(scale=0.35, rotation=45.0, half_body=0.3, half_body_joints=8)
MPII_PERSON = PersonAugment(scale=0.25, rotation=30.0, half_body=0.0)

# HigherHRNet (CVPR 2020) and LitePose (CVPR 2022): whole photographs, no change of colour
BOTTOM_UP = Augment(
    scale=(0.75, 1.5), rotation=30.0, shift=0.2, flip=0.5, colour=0, grey=0, blur=0, occlusion=0, mosaic=0
)
