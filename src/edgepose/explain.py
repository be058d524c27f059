"""Explain: the parse graph of a refined network (RMPG, `models/_parsegraph.py`) on one person, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import conv2d
from tyro.conf import Positional, arg

from edgepose import recalibrate
from edgepose.card import Card
from edgepose.codecs import Image
from edgepose.codecs.crop import crop
from edgepose.codecs.topdown import TopDown
from edgepose.detect import boxes
from edgepose.draw import draw
from edgepose.explainplot import Part, tree
from edgepose.models._parsegraph import Node, Refinement, TokenNode
from edgepose.predictor import Predictor, load
from edgepose.results import write_whole
from edgepose.runtimes.pytorch import runner
from edgepose.sources import read_image
from edgepose.warp import Warp
from edgepose.weights import find

TALL = 480  # pixels of the crop's longer side as it is drawn


def shares(fuse: Any, features: Tensor) -> float:
    """What a node takes from its siblings' context, of the input (1, 2 d, h, w) of its `fuse` (convolution, BatchNorm,
    ReLU): its own d channels, then d of context.

    The convolution is linear, so its output is what its own channels add, what the context adds, and a bias. Energy is
    the sum of squares over channels and positions of such a part, after the scale of the BatchNorm; the share is the
    context's energy over both. 0 if both are 0.
    """
    weight, d = fuse[0].weight, features.shape[1] // 2
    scale = (fuse[1].weight / (fuse[1].running_var + fuse[1].eps).sqrt())[:, None, None]
    own, context = (
        float((scale * conv2d(features[:, part], weight[:, part], padding=fuse[0].padding)).double().square().sum())
        for part in (slice(0, d), slice(d, None))
    )
    return context / (own + context) if own + context else 0.0


def graph(net: nn.Module, batch: Tensor, root: Node | TokenNode) -> list[Part]:
    """The nodes of `root`, a module in `net`, as the network runs on a batch (1, 3, h, w); level by level.

    With attention the features of a child are a sum of its own and of its context; energies are of those two.
    """
    found: list[Part] = []

    def watch(node: Any, path: tuple[int, ...]) -> list[Any]:
        below = [hook for i, child in enumerate(node.below) for hook in watch(child, (*path, i))]
        if isinstance(node, TokenNode):
            return [*below, *_watch_tokens(node, path, found)]

        def fused(i: int) -> Any:
            return lambda fuse, given, out: found.append(_part((*path, i), out, shares(fuse, given[0])))

        return [*below, *(fuse.register_forward_hook(fused(i)) for i, fuse in enumerate(node.fuse))]

    hooks = watch(root, ())
    hooks.append(root.register_forward_hook(lambda _, __, out: found.append(_part((), out))))
    try:
        with torch.inference_mode():
            net.eval()(batch)
    finally:
        for hook in hooks:
            hook.remove()
    return sorted(found, key=lambda part: (len(part.path), part.path))


def _watch_tokens(node: TokenNode, path: tuple[int, ...], found: list[Part]) -> list[Any]:
    context: list[Tensor] = []

    def whole(_: Any, __: Any, out: Tensor) -> None:
        added = context.pop().transpose(1, 2).unflatten(2, out.shape[2:])
        for i, (child, theirs) in enumerate(zip(out.chunk(node.n, 1), added.chunk(node.n, 1), strict=True)):
            own, other = (float(f.double().square().sum()) for f in (child - theirs, theirs))
            found.append(_part((*path, i), child, other / (own + other) if own + other else 0.0))

    def keep(_: Any, __: Any, out: Tensor) -> None:
        context.append(out)

    proj = node.proj.register_forward_hook(keep)
    return [proj, node.register_forward_hook(whole)]


def _part(path: tuple[int, ...], features: Tensor, share: float | None = None) -> Part:
    mean = features[0].abs().mean(0).float().numpy()
    low, high = float(mean.min()), float(mean.max())
    stretched = (mean - low) / (high - low) if high > low else np.zeros_like(mean)
    return Part(path, features.shape[1], stretched.astype(np.float32), share)


def roots(net: nn.Module) -> list[tuple[Any, bool]]:
    """The modules of a network in order, each with whether it was taught body parts."""
    out: list[tuple[Any, bool]] = []
    for refine in net.modules():
        if isinstance(refine, Refinement) and refine.count:
            stages: Any = refine.get_submodule(refine.where)
            out += [(stage, len(refine.heads) > 0 and i == refine.count // 2) for i, stage in enumerate(stages)]
    return out


def explain(
    model: Annotated[Positional[str], arg(metavar="MODEL")],
    picture: Annotated[Positional[Path], arg(metavar="PICTURE")],
    out: Annotated[Path, arg(metavar="FILE.png")],
    box: Annotated[str | None, arg(metavar="x0,y0,x1,y1")] = None,
    module: Annotated[int | None, arg(metavar="N")] = None,
) -> int:
    """Draw the parse graph of a network with RMPG on one person: what every node answers to, and what it takes from the
    context of its siblings.

    Args:
        model: model folder of a network that was trained with --refine graph, attention or hierarchy.
        picture: photograph with a person.
        out: PNG file to write.
        box: the person, in pixels of the picture; by default the largest that is found.
        module: which of several, from 1; by default the one that was taught body parts, else the last.
    """
    folder = find(model)
    card = Card.read(folder)
    if not isinstance(card.codec, TopDown):
        raise ValueError(
            f"{model} looks at whole pictures: only models that look at one person at a time are explained"
        )
    if not card.arch.get("refine"):
        raise ValueError(f"{model} has no parse graph: train one with `edgepose train RECIPE --refine graph`")
    where = None if box is None else corners(box)
    net = recalibrate.load(folder)
    root, taught = chosen(model, roots(net), module)
    if out.suffix.lower() != ".png":
        raise ValueError(f"--out is a PNG file; got {out}")
    image = read_image(picture)
    place = person(folder, image, picture) if where is None else where
    codec = replace(card.codec, flip=False)
    (batch,), (warps,) = codec.encode(image, place)
    parts = graph(net, torch.from_numpy(batch), root)
    if taught:
        names = ("", *card.codec.skeleton.parts)
        parts = [replace(part, name=name) for part, name in zip(parts, names, strict=False)] + parts[len(names) :]
    shown, posed = views(Predictor(card, card.codec, runner(net)), image, place, warps[0])
    out.parent.mkdir(parents=True, exist_ok=True)
    write_whole(out, tree(parts, shown, posed, f"{card.model}: {picture.name}"))
    for part in parts:
        share = "" if part.share is None else f", {part.share:.3f} of siblings' context"
        print(f"{part.title}: {part.channels} channels{share}")
    print(f"-> {out}")
    return 0


def corners(text: str) -> NDArray[np.float64]:
    """(1, 4) of "x0,y0,x1,y1"; `ValueError` unless it is a box."""
    try:
        place = np.array([[float(v) for v in text.split(",")]])
    except ValueError:
        place = np.zeros((1, 0))
    if place.shape != (1, 4) or not np.isfinite(place).all() or not (place[:, 2:] > place[:, :2]).all():
        raise ValueError(f"--box is x0,y0,x1,y1 in pixels, as in 10,20,110,220; got {text!r}")
    return place


def chosen(model: str, found: Sequence[tuple[Any, bool]], number: int | None) -> tuple[Any, bool]:
    """Module `number` from 1, by default the one that was taught body parts, else the last; `ValueError` without."""
    if number is not None and not 1 <= number <= len(found):
        raise ValueError(f"--module is 1 to {len(found)} in {model}, got {number}")
    usual = next((i for i, (_, taught) in enumerate(found) if taught), len(found) - 1)
    root, taught = found[usual if number is None else number - 1]
    if not isinstance(root, (Node, TokenNode)):
        raise ValueError(f"{model} is refined by a control, a plain stack of convolutions: there is no graph to draw")
    return root, taught


def person(folder: Path, image: Image, picture: Path, least: float = 0.35) -> NDArray[np.float32]:
    """The box (1, 4) of the largest person with a score from `least`; `ValueError` if there is none."""
    poses = load(folder, "pytorch")(image)
    found = boxes(poses[np.asarray(poses.person_scores) >= least])
    if not len(found):
        raise ValueError(f"nobody was found in {picture}: say where the person is with --box x0,y0,x1,y1")
    return found[[np.argmax((found[:, 2:] - found[:, :2]).prod(1))]]


def views(predictor: Predictor, image: Image, place: NDArray, warp: Warp) -> tuple[Image, Image]:
    """The crop of a box (1, 4), larger than the network sees it; and the same with the pose."""
    zoom = TALL / max(warp.size)
    size = (round(warp.size[0] * zoom), round(warp.size[1] * zoom))
    large = warp.then(Warp.resize(warp.size, size))
    large = Warp(large.matrix, size)
    shown = crop(image, large)
    return shown, draw(shown, large.poses(predictor(image, place)))
