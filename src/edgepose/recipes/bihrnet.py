"""BiHRNet (arXiv 2311.10296): a binary HRNet, taught by the real one. What is the paper's: docs/papers/bihrnet.md.

edgepose train hrnet-w32 --root COCO --out TWIN --init hrnetv2_w32_imagenet_pretrained.pth --devices 4
edgepose train bihrnet-w32-step1 --root COCO --out ONE --init TWIN/model/model.safetensors teacher=TWIN/model
edgepose train bihrnet-w32 --root COCO --out RUN --init ONE/model/model.safetensors teacher=TWIN/model

Step 1 has binary activations and real weights; leave it out for one step. The paper's scores: MPII val PCKh@0.5 87.9,
COCO val2017 70.8 AP (width and input unknown, 384x288 is likelier). Four GPUs; not run here.

edgepose train bihrnet-small-twin --root DATA --out TWIN          # a narrow real HRNet of 128x96 for two CPU cores
edgepose train bihrnet-small --root DATA --out RUN --init TWIN/model/model.safetensors teacher=TWIN/model

The others named small change one thing each; `python benchmarks/bihrnet.py` runs them all with one budget.
"""

from dataclasses import replace
from typing import Any

from edgepose.recipes._official import COCO, COCO_PERSON, HRNET, MPII, MPII_PERSON
from edgepose.recipes._small import COCO_SMALL, CROPS, LICENCE_SMALL

# Rates fall to 0 in the end: signs flip until they do. lambda makes both terms of equal size after some hundred steps
_PLAN: dict[str, Any] = {
    **HRNET, "schedule": "linear", "milestones": (), "decay": 1.0, "warmup": 500, "loss": "awing", "kl_weight": 0.05,
    "recalibrate": 50,
}  # fmt: skip
_FIRST: dict[str, Any] = {**_PLAN, "epochs": 100.0, "weight_decay": 1e-5, "arch": {"real_weights": True}}
_LIGHT = replace(COCO_PERSON, scale=0.25, rotation=30.0)  # a binary network has little room for more

_NARROW: dict[str, Any] = {"width": 16, "planes": 16, "modules": (1, 1, 1), "blocks": ((2, 2), (2, 2, 2), (2, 2, 2, 2))}


def _small(model: str = "bihrnet-w32", kl: float = 0.05, loss: str = "awing", decay: float = 0.0, **arch: Any) -> Any:
    plan = CROPS(
        (("coco", "small"), ("lsp", "train")), (("coco", "train115"),), steps=3_000, batch=32, lr=2e-3,
        optimiser="adam", weight_decay=decay, local_steps=1, loss=loss, kl_weight=kl, arch={**_NARROW, **arch},
        codec={"input_size": (96, 128)}, focus=6.0 if loss == "mse" else 0.0, recalibrate=30, ema=0.995,
        data=COCO_SMALL, licence=LICENCE_SMALL,
    )  # fmt: skip
    return replace(plan, model=model)


RECIPES = {
    **{w: COCO(f"bihrnet-{w}", person=_LIGHT, **_PLAN) for w in ("w32", "w48")},
    **{f"{w}-step1": COCO(f"bihrnet-{w}", person=_LIGHT, **_FIRST) for w in ("w32", "w48")},
    **{f"{w}-384x288": COCO(f"bihrnet-{w}-384x288", person=_LIGHT, **_PLAN) for w in ("w32", "w48")},
    **{f"{w}-384x288-step1": COCO(f"bihrnet-{w}-384x288", person=_LIGHT, **_FIRST) for w in ("w32", "w48")},
    **{f"{w}-mpii": MPII(f"bihrnet-{w}-256x256", person=MPII_PERSON, **_PLAN) for w in ("w32", "w48")},
    **{f"{w}-mpii-step1": MPII(f"bihrnet-{w}-256x256", person=MPII_PERSON, **_FIRST) for w in ("w32", "w48")},
    "small-twin": _small("hrnet-w32", kl=0.0, loss="mse"),
    "small": _small(),
    "small-mse": _small(kl=0.0, loss="mse"),
    "small-awing": _small(kl=0.0),
    "small-mse-kl": _small(loss="mse", kl=0.001),
    "small-step1": _small(decay=1e-5, real_weights=True),
    "small-plain-front": _small(front="plain"),
    "small-ir-b": _small(front="ir-b"),
    "small-plain-block": _small(block="plain"),
    "small-ms-b": _small(block="ms-b"),
    "small-ms-c": _small(block="ms-c"),
    "small-bireal": _small(kl=0.0, loss="mse", front="plain", block="plain"),
}
