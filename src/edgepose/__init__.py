"""edgepose: 2D human poses in pictures and video, on small computers."""

from edgepose.poses import Pose, Poses
from edgepose.skeleton import COCO17, CROWDPOSE14, LSP14, MPII16, Skeleton

__version__ = "0.1.0"
__all__ = ["COCO17", "CROWDPOSE14", "LSP14", "MPII16", "Pose", "Poses", "Skeleton", "__version__"]
