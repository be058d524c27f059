"""HigherHRNet (CVPR 2020), bottom-up, and its gradual shrinking (LitePose, CVPR 2022, section 3.1).

edgepose train higherhrnet-w32 --root COCO --out RUN --init hrnetv2_w32_imagenet_pretrained.pth --devices 8
edgepose train higherhrnet-shrink1 --root CROWDPOSE --out RUN --devices 8      # then shrink2, shrink3

The papers' scores: COCO val2017, 512 px, single scale: W32 67.1 AP. CrowdPose test, the shrinking of W16 that took away
high-resolution branches: see docs/papers/higherhrnet.md. Eight GPUs with 12 photographs each. Not run here.
"""

from typing import Any

from edgepose.recipes._official import BOTTOM_UP, COCO, CROWDPOSE

_PLAN: dict[str, Any] = {
    "epochs": 300.0,
    "batch": 96,
    "optimiser": "adam",
    "lr": 1e-3,
    "weight_decay": 0.0,
    "warmup": 0,
    "schedule": "step",
    "milestones": (200 / 300, 260 / 300),
    "augment": BOTTOM_UP,
}
RECIPES = {
    **{w: COCO(f"higherhrnet-{w}", **_PLAN) for w in ("w16", "w32", "w48")},
    **{f"{w}-crowdpose": CROWDPOSE(f"higherhrnet-{w}", **_PLAN) for w in ("w16", "w32", "w48")},
    **{f"shrink{n}": CROWDPOSE(f"higherhrnet-shrink{n}", **_PLAN) for n in (1, 2, 3)},
}
