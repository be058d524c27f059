"""Your own photographs and joints (docs/data.md), from the bundled weights.

edgepose train custom-person --root mine --out runs/mine --init checkpoints/efficientlite-0-person/model.safetensors
edgepose train custom-whole --root mine --out runs/mine --init checkpoints/efficientlite-0/model.safetensors
edgepose train custom-person --root mine --out runs/mine photographs=yolo,train validation=yolo,val    # a YOLO folder

`person` looks at one person at a time and needs few photographs; `whole` finds everybody at once. For some hundred to
some thousand photographs and two CPU cores, about half an hour and two hours. The score depends on your photographs.
"""

from edgepose.data._augment import Augment
from edgepose.data._persons import PersonAugment
from edgepose.recipes import Recipe
from edgepose.recipes._small import SMALL

OWN = (("custom", "train"),)
HELD = (("custom", "val"),)
DATA = "your own photographs (change `data=` and `licence=` to what the card should say)"

RECIPES = {
    "person": Recipe(
        "efficientlite-0-person",
        OWN,
        HELD,
        steps=1_500,
        batch=32,
        local_steps=50,
        optimiser="muon",
        lr=7e-4,
        decay=1.0,
        focus=6.0,
        augment=Augment(flip=0.5, colour=0.25, grey=0.03, blur=0.1, occlusion=0.2, mosaic=0),
        person=PersonAugment(scale=0.25, rotation=30.0, half_body=0.15, shift=0.08),
        data=DATA,
        licence="yours",
    ),
    "whole": SMALL(
        "efficientlite-0",
        photographs=OWN,
        singles=OWN,
        validation=HELD,
        steps=3_000,
        batch=16,
        lr=6e-4,
        resolutions=((0.0, 192), (0.85, 256)),
        data=DATA,
        licence="yours",
    ),
}
