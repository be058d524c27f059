"""RMPG: refinement module based on a parse graph of feature maps for pose estimation (Liu et al., arXiv 2501.11069).

The module itself is in `_parsegraph.py`; other networks take it by their field `refine`. Here is the paper's network
of several modules, whose middle one is taught the parts of the body: a host of this package with the modules handed in.
What is known of the paper and what is reconstructed: docs/papers/rmpg.md. Input and output are the host's:
`forward(images (n, 3, h, w)) -> [(n, J, h/4, w/4)]`, in training with the maps of six body parts in front.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor, nn

from edgepose import folder
from edgepose.models._parsegraph import KINDS, Refine
from edgepose.skeleton import COCO17, CROWDPOSE14, MPII16, Skeleton

FILES = "edgepose.models"
HOSTS = ("hourglass", "hrnet", "simplebaseline", "vitpose")  # files whose networks the hierarchy is built on
HOST = "host."  # where the weights of a host lie in a network built here


def named(name: str, skeleton: Skeleton, place: int = 0) -> Refine:
    """The refinement called "graph", "attention", "control" or "hierarchy": three graphs, the middle one supervised."""
    if name == "hierarchy":
        return Refine(place=place, stages=3, parts=sizes(skeleton))
    if name not in KINDS:
        raise ValueError(folder.unknown("refinement", name, [*KINDS, "hierarchy"]))
    return Refine(name, place=place)  # type: ignore[arg-type]


def sizes(skeleton: Skeleton) -> tuple[int, ...]:
    """How many joints each part of `skeleton.parts` has; `ValueError` if a part has none."""
    for part, rows in skeleton.parts.items():
        if not rows:
            raise ValueError(f"skeleton {skeleton.name} has no {part} joints to teach a hierarchy of body parts")
    return tuple(len(rows) for rows in skeleton.parts.values())


THREE = named("hierarchy", COCO17)


@dataclass(frozen=True)
class Arch:
    """A network of this package (`host`, as file-variant) and what refines it."""

    joints: int = 17
    host: str = "simplebaseline-r50"
    refine: Refine = THREE

    def __post_init__(self) -> None:
        if isinstance(self.refine, dict):  # JSON gives objects
            object.__setattr__(self, "refine", Refine(**self.refine))


class Hierarchy(nn.Module):
    """The network of `Arch`: its host, with the modules handed in."""

    def __init__(self, arch: Arch = Arch()) -> None:
        super().__init__()
        self.arch = arch
        file, inside, _ = _host(arch)
        self.host = file.build(inside)

    def forward(self, images: Tensor) -> list[Tensor]:
        return self.host(images)


def _host(arch: Arch) -> tuple[Any, Any, Any]:
    """The file of the host, the host's `Arch` with the refinement, and its input (w, h); `ValueError` if unknown."""
    family = arch.host.partition("-")[0]
    known = {f"{name}-{key}": row for name in HOSTS for key, row in folder.entry(FILES, name).ARCHS.items()}
    if arch.host not in known:
        raise ValueError(folder.unknown("host", arch.host, list(known)))
    inside, size = known[arch.host]
    return folder.entry(FILES, family), replace(inside, joints=arch.joints, refine=arch.refine), size


def build(arch: Arch) -> Hierarchy:
    """The network of `arch`, freshly initialised."""
    return Hierarchy(arch)


def for_skeleton(arch: Arch, skeleton: Skeleton) -> Arch:
    """`arch` for the joints of `skeleton`, and its body parts."""
    parts = sizes(skeleton) if arch.refine.parts else ()
    return replace(arch, joints=len(skeleton), refine=replace(arch.refine, parts=parts))


def codec(arch: Arch, skeleton: Skeleton, size: tuple[int, int]) -> Any:
    """How the host reads pictures: crops of `size` (w, h) pixels."""
    file, inside, _ = _host(arch)
    return file.codec(inside, skeleton, size)


def native(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a checkpoint under the keys used here: there is one layout only."""
    return dict(state)


def infer(state: Mapping[str, Tensor]) -> Arch:
    """The `Arch` whose network has the shapes of a state dict; `ValueError` if it is none, or of an unknown host."""
    if not all(key.startswith(HOST) for key in state):
        raise ValueError("not a checkpoint of several RMPGs: not all keys begin with host.")
    inner = {key.removeprefix(HOST): value for key, value in state.items()}
    for name in HOSTS:
        try:
            found = folder.entry(FILES, name).infer(inner)
        except ValueError:
            continue
        for variant, (arch, _) in folder.entry(FILES, name).ARCHS.items():
            if found.refine and replace(found, joints=0) == replace(arch, joints=0, refine=found.refine):
                return Arch(found.joints, f"{name}-{variant}", found.refine)
    raise ValueError("not a checkpoint of several RMPGs on a known host")


def load_imagenet(net: Hierarchy, path: str) -> None:
    """Start the host's trunk as the host does; `ValueError` if the file does not fit."""
    _host(net.arch)[0].load_imagenet(net.host, path)


_MPII, _CROWD = for_skeleton(Arch(), MPII16), for_skeleton(Arch(), CROWDPOSE14)
_R18 = Arch(host="simplebaseline-r18", refine=replace(THREE, place=1))
ARCHS = {  # name -> (Arch, input (w, h) in pixels); r18 is ours, for small computers
    "r50": (Arch(), (192, 256)),
    "r50-mpii": (_MPII, (256, 256)),
    "r50-crowdpose": (_CROWD, (192, 256)),
    "w32": (replace(Arch(), host="hrnet-w32"), (192, 256)),
    "r18": (_R18, (192, 256)),
}
