"""Your own photographs and joints (docs/data.md), from the bundled weights.

edgepose train custom-person --root mine --out runs/mine --init checkpoints/efficientlite-0-person/model.safetensors
edgepose train custom-whole --root mine --out runs/mine --init checkpoints/efficientlite-0/model.safetensors
edgepose train custom-person --root mine --out runs/mine photographs=yolo,train validation=yolo,val    # a YOLO folder

`person` looks at one person at a time and needs few photographs; `whole` finds everybody at once. For some hundred to
some thousand photographs and two CPU cores, about half an hour and two hours. The score depends on your photographs.
"""

from edgepose.recipes._small import CROPS, SMALL

OWN = (("custom", "train"),)
HELD = (("custom", "val"),)
DATA = "your own photographs (change `data=` and `licence=` to what the card should say)"

RECIPES = {
    "person": CROPS(OWN, HELD, steps=1_500, batch=32, lr=7e-4, data=DATA, licence="yours"),
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
