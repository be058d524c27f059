"""Rewrites zoo.json: `python -m edgepose.models`, after a change to any `ARCHS` or to the published scores below."""

from __future__ import annotations

import json
from typing import Any

from edgepose.models import ZOO_FILE, card, input_hw, names
from edgepose.skeleton import COCO17, CROWDPOSE14

# Scores of the authors' weights, single scale with flip test, as papers and repositories print them (Hourglass-52:
# MMPose; the stacks of hourglasses: pytorch-pose; the shrunken networks: LitePose's slides); not ours to ship
PUBLISHED = {
    ("litepose-xs", "coco17"): {"COCO val2017 AP": 0.406, "COCO test-dev AP": 0.378},
    ("litepose-s", "coco17"): {"COCO val2017 AP": 0.568, "COCO test-dev AP": 0.567},
    ("litepose-m", "coco17"): {"COCO val2017 AP": 0.598, "COCO test-dev AP": 0.597},
    ("litepose-l", "coco17"): {"COCO val2017 AP": 0.625},
    ("litepose-xs", "crowdpose14"): {"CrowdPose test AP": 0.495},
    ("litepose-s", "crowdpose14"): {"CrowdPose test AP": 0.583},
    ("litepose-m", "crowdpose14"): {"CrowdPose test AP": 0.599},
    ("litepose-l", "crowdpose14"): {"CrowdPose test AP": 0.619},
    ("litepose-prune-s", "crowdpose14"): {"CrowdPose test AP": 0.547},
    ("simplebaseline-r50", "coco17"): {"COCO val2017 AP": 0.704},
    ("simplebaseline-r101", "coco17"): {"COCO val2017 AP": 0.714},
    ("simplebaseline-r152", "coco17"): {"COCO val2017 AP": 0.720},
    ("simplebaseline-r50-384x288", "coco17"): {"COCO val2017 AP": 0.722},
    ("simplebaseline-r101-384x288", "coco17"): {"COCO val2017 AP": 0.736},
    ("simplebaseline-r152-384x288", "coco17"): {"COCO val2017 AP": 0.743, "COCO test-dev AP": 0.737},
    ("simplebaseline-r50-256x256", "mpii16"): {"MPII val PCKh@0.5": 0.885},
    ("simplebaseline-r101-256x256", "mpii16"): {"MPII val PCKh@0.5": 0.891},
    ("simplebaseline-r152-256x256", "mpii16"): {"MPII val PCKh@0.5": 0.896},
    ("hrnet-w32", "coco17"): {"COCO val2017 AP": 0.744},
    ("hrnet-w48", "coco17"): {"COCO val2017 AP": 0.751},
    ("hrnet-w32-384x288", "coco17"): {"COCO val2017 AP": 0.758},
    ("hrnet-w48-384x288", "coco17"): {"COCO val2017 AP": 0.763, "COCO test-dev AP": 0.755},
    ("hrnet-w32-256x256", "mpii16"): {"MPII val PCKh@0.5": 0.903},
    ("higherhrnet-w16", "crowdpose14"): {"CrowdPose test AP": 0.504},
    ("higherhrnet-w24", "crowdpose14"): {"CrowdPose test AP": 0.574},
    ("higherhrnet-w32", "coco17"): {"COCO val2017 AP": 0.671, "COCO test-dev AP": 0.664},
    ("higherhrnet-w48", "coco17"): {"COCO val2017 AP": 0.699, "COCO test-dev AP": 0.684},
    ("higherhrnet-shrink1", "crowdpose14"): {"CrowdPose test AP": 0.510},
    ("higherhrnet-shrink2", "crowdpose14"): {"CrowdPose test AP": 0.518},
    ("higherhrnet-shrink3", "crowdpose14"): {"CrowdPose test AP": 0.530},
    ("hourglass-2", "mpii16"): {"MPII val PCKh@0.5": 0.8695},
    ("hourglass-8", "mpii16"): {"MPII val PCKh@0.5": 0.8878},
    ("hourglass-52", "coco17"): {"COCO val2017 AP": 0.726},
    ("hourglass-52-384x384", "coco17"): {"COCO val2017 AP": 0.746},
    ("hourglass-52-mpii", "mpii16"): {"MPII val PCKh@0.5": 0.889},
}


def rows() -> list[dict[str, Any]]:
    """One row per network and skeleton, in the layout of zoo.json."""
    out = []
    for name in names():
        for skeleton in (COCO17, CROWDPOSE14) if name.startswith("litepose-") else (None,):
            made = card(name, skeleton)
            skeleton = made.codec.skeleton
            scores = PUBLISHED.get((name, skeleton.name), {})
            size = made.codec.input_size  # pyright: ignore[reportAttributeAccessIssue]
            out.append(
                {
                    "name": name,
                    "skeleton": skeleton.name,
                    "joints": len(skeleton),
                    "input": list(input_hw(size)),
                    "params": made.params,
                    "gmacs": made.gmacs,
                    "gmacs_paper": made.gmacs_paper,
                    "gops": made.gops,
                    "scores": {f"{key} (published)": value for key, value in scores.items()},
                    "licence": "Apache-2.0 (code); no weights included",
                }
            )
    return out


def text() -> str:
    """The whole of zoo.json, one row a line."""
    return "[\n" + ",\n".join(" " + json.dumps(row) for row in rows()) + "\n]\n"


if __name__ == "__main__":
    ZOO_FILE.write_text(text())
