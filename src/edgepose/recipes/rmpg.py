"""RMPG (arXiv 2501.11069): a parse graph of feature maps on other networks, and networks of several of them.

edgepose train rmpg-r50 --root COCO --out RUN --init resnet50.pth --devices 4          # on SimpleBaselines ResNet-50
edgepose train rmpg-hierarchy --root COCO --out RUN --init resnet50.pth --devices 4    # three modules, one supervised
edgepose train simplebaseline-r18-small --refine graph --root DATA --out RUN           # on any recipe; two CPU cores
edgepose train efficientlite-0-person --refine graph --init checkpoints/efficientlite-0-person/model.safetensors ...

The paper's scores, COCO val2017 with a detector's boxes (people AP 56.4): R50 72.5, R101 73.1, Hourglass-52 74.0,
ViTPose-B 76.1 AP. Its hosts' recipes are unchanged: MMPose's, 210 epochs, Adam 5e-4 for 512 crops (Hourglass: 256), and
ViTPose's own. Rows with one thing changed are ablations on ResNet-50. What is reconstructed: docs/papers/rmpg.md. Those
on whole data sets need GPUs, hours not stated; not run here. The small ones are for two CPU cores.
"""

from dataclasses import replace
from typing import Any

from edgepose.data._persons import PersonAugment
from edgepose.recipes import simplebaseline, vitpose
from edgepose.recipes._official import COCO, CROWDPOSE, HRNET, MPII, MPII_PERSON

_PERSON = PersonAugment(scale=0.5, rotation=80.0, half_body=0.3, half_body_joints=8)  # MMPose's, but for its shift
_PLAN: dict[str, Any] = {**HRNET, "lr": 5e-4, "batch": 512, "warmup": 500}
_HALF = PersonAugment(scale=0.5, rotation=80.0, half_body=0.3, half_body_joints=6)

R50 = COCO("simplebaseline-r50-rmpg", person=_PERSON, **_PLAN)
THREE = COCO("rmpg-r50", person=_PERSON, **_PLAN)
SMALL = simplebaseline.RECIPES["r18-small"]
CHEAP = {"refine": {"place": 1}}  # behind the first transposed convolution, at 1/16 of the input


def _changed(plan: Any, **refine: Any) -> Any:
    """The recipe with fields of its refinement changed."""
    return replace(plan, arch={**plan.arch, "refine": {**plan.arch.get("refine", {}), **refine}})


ABLATIONS = {
    "r50-gp2": _changed(R50, gp=(2,)),  # depth
    "r50-gp222": _changed(R50, gp=(2, 2, 2)),
    "r50-gp4": _changed(R50, gp=(4,)),  # branching
    "r50-gp44": _changed(R50, gp=(4, 4)),
    "r50-refined": _changed(R50, context_on="refined"),
    "r50-lean": _changed(R50, extra_conv=False),
    "r50-place1": _changed(R50, place=1),
    "r50-place2": _changed(R50, place=2),
    "r50-attention": _changed(R50, kind="attention", extra_conv=False, place=1),
    "r50-control": _changed(R50, kind="control"),
    "hierarchy-unsupervised": _changed(THREE, parts=()),
    "hierarchy-refined": _changed(THREE, context_on="refined"),
    "hierarchy-control": _changed(THREE, kind="control", parts=()),
}
RECIPES = {
    "r50": R50,
    "r101": COCO("simplebaseline-r101-rmpg", person=_PERSON, **_PLAN),
    "hourglass-52": COCO("hourglass-52-rmpg", person=_PERSON, **{**_PLAN, "batch": 256}),
    "vitpose-b": replace(vitpose.RECIPES["b"], model="vitpose-b-rmpg"),
    "hierarchy": THREE,
    "hierarchy-w32": COCO("rmpg-w32", person=_PERSON, **_PLAN),
    "hierarchy-mpii": MPII("rmpg-r50-mpii", person=MPII_PERSON, **_PLAN),
    "hierarchy-crowdpose": CROWDPOSE("rmpg-r50-crowdpose", person=_HALF, **_PLAN),
    **ABLATIONS,
    "small": replace(SMALL, refine="graph", arch=SMALL.arch | CHEAP),
    "small-control": replace(SMALL, refine="control", arch=SMALL.arch | CHEAP),
    "small-hierarchy": replace(SMALL, refine="hierarchy", arch=SMALL.arch | CHEAP),
}
