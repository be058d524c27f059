"""HRNet (CVPR 2019), one person a crop.

edgepose train hrnet-w32 --root COCO --out RUN --init hrnetv2_w32_imagenet_pretrained.pth --devices 4

The paper's scores: COCO val2017 with its detector's boxes, 256x192: W32 74.4, W48 75.1 AP; MPII val PCKh@0.5: W32 90.3.
Four GPUs with 32 crops each; hours not stated. Not run here.
"""

from edgepose.recipes._official import COCO, COCO_PERSON, HRNET, MPII, MPII_PERSON

RECIPES = {
    **{w: COCO(f"hrnet-{w}", person=COCO_PERSON, **HRNET) for w in ("w32", "w48")},
    **{f"{w}-384x288": COCO(f"hrnet-{w}-384x288", person=COCO_PERSON, **HRNET) for w in ("w32", "w48")},
    **{f"{w}-mpii": MPII(f"hrnet-{w}-256x256", person=MPII_PERSON, **HRNET) for w in ("w32", "w48")},
}
