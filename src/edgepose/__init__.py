"""edgepose: 2D human poses in pictures and video, on small computers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgepose.poses import Pose, Poses
from edgepose.skeleton import COCO17, CROWDPOSE14, LSP14, MPII16, Skeleton

if TYPE_CHECKING:
    from edgepose.predictor import Predictor, load
    from edgepose.weights import save

__version__ = "0.1.0"
__all__ = [
    "COCO17",
    "CROWDPOSE14",
    "LSP14",
    "MPII16",
    "Pose",
    "Poses",
    "Predictor",
    "Skeleton",
    "__version__",
    "load",
    "save",
]


def __getattr__(name: str) -> Any:
    """`load`, `save` and `Predictor` are imported when first asked for: OpenCV and the engines take a while."""
    if name in ("load", "Predictor"):
        from edgepose import predictor

        return getattr(predictor, name)
    if name == "save":
        from edgepose import weights

        return weights.save
    raise AttributeError(f"module 'edgepose' has no attribute {name!r}")
