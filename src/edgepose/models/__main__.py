"""Rewrites zoo.json: `python -m edgepose.models`, after a change to any `ARCHS` or to the published scores below."""

from __future__ import annotations

import json
from typing import Any

from edgepose.models import ZOO_FILE, card, input_hw, names
from edgepose.skeleton import COCO17, CROWDPOSE14

# AP of the authors' weights, single scale with flip test (LitePose README and slides); not ours to ship
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
                    "scores": {f"{key} (the paper's weights)": value for key, value in scores.items()},
                    "licence": "Apache-2.0 (code); no weights included",
                }
            )
    return out


def text() -> str:
    """The whole of zoo.json, one row a line."""
    return "[\n" + ",\n".join(" " + json.dumps(row) for row in rows()) + "\n]\n"


if __name__ == "__main__":
    ZOO_FILE.write_text(text())
