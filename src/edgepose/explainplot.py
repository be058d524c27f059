"""Pictures of parse graphs: the nodes as a tree, their activations over the crop, what each takes from its siblings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edgepose.codecs import Image
from edgepose.plots import INK, SERIES, figure, png

CAPTION = (
    "Colour: mean of |features| over the channels of a node, from its least (dark) to its largest value (bright). "
    "Bar: what a node takes from its\nsiblings' context, E(context) / (E(context) + E(own)), E being the sum of "
    "squares of what each of the two adds to the node's features before bias\nand ReLU."
)
CELL, GAP, ROW, LEFT = 1.45, 0.3, 0.75, 0.35  # inches: width of a node and space beside it, below it, at the margins


@dataclass(frozen=True, eq=False)
class Part:
    """A node of the graph on one crop.

    path: which child at each level, from 0; the root's is (). channels: of its features. activation: (h, w), the mean
    of |features| over the channels, stretched to 0..1. share: 0 to 1, what it takes from its siblings' context (see
    `shares`); None of the root, which has no siblings. name: the body part that it was taught, if any.
    """

    path: tuple[int, ...]
    channels: int
    activation: NDArray[np.float32]
    share: float | None = None
    name: str = ""

    @property
    def title(self) -> str:
        """The body part, or the number of the child at each level from 1."""
        return self.name.replace("_", " ") or ".".join(str(i + 1) for i in self.path) or "root"


def tree(parts: Sequence[Part], shown: Image, posed: Image, title: str) -> bytes:
    """The nodes as a tree over the crop `shown`, and the crop `posed` with its pose at the top left, as a PNG file."""
    places, levels = layout([part.path for part in parts])
    tall = CELL * shown.shape[0] / shown.shape[1]
    leaves = max(x for x, _ in places.values()) + 1
    width, height = 2 * LEFT + leaves * (CELL + GAP) - GAP, levels * (tall + ROW) + 1.1
    fig = figure(width, height)
    fig.set_layout_engine("none")
    fig.text(LEFT / width, 1 - 0.3 / height, title, fontsize=12, fontweight="bold", color=INK, va="center")
    fig.text(LEFT / width, 0.1 / height, CAPTION, fontsize=6.2, color=INK, va="bottom", linespacing=1.5)

    def corner(x: float, level: int) -> tuple[float, float]:  # inches from the bottom left
        return LEFT + x * (CELL + GAP), height - 0.85 - level * (tall + ROW) - tall

    def panel(x: float, level: int, picture: Image, name: str) -> Any:
        left, bottom = corner(x, level)
        ax = fig.add_axes((left / width, bottom / height, CELL / width, tall / height))
        ax.imshow(picture, interpolation="bilinear")
        ax.set_axis_off()
        ax.set_title(name, fontsize=8.5, color=INK, pad=3)
        return ax

    panel(0, 0, posed, "pose")
    for part in parts:
        x, level = places[part.path]
        ax = panel(x, level, heated(shown, part.activation), f"{part.title}  ({part.channels} ch.)")
        if part.path:
            left, bottom = corner(*places[part.path[:-1]])
            here = corner(x, level)
            across = [(left + CELL / 2) / width, (here[0] + CELL / 2) / width]
            down = [(bottom - (0.32 if len(part.path) > 1 else 0.06)) / height, (here[1] + tall + 0.22) / height]
            fig.add_artist(_line(across, down, 1.2, "#9aa0a8"))
        if part.share is not None:
            box = ax.get_position()
            bar = fig.add_axes((box.x0, box.y0 - 0.1 / height, box.width, 0.07 / height))
            bar.barh([0], [1], 1, color="#d9dce1")
            bar.barh([0], [part.share], 1, color=SERIES[1])
            bar.set(xlim=(0, 1), ylim=(-0.5, 0.5))
            bar.set_axis_off()
            note = (box.x0, box.y0 - 0.22 / height)
            fig.text(*note, f"context {100 * part.share:.0f} %", fontsize=7, color=INK, va="center")
    return png(fig)


def _line(across: list[float], down: list[float], width: float, colour: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D(across, down, linewidth=width, color=colour, zorder=0)


def layout(paths: Sequence[tuple[int, ...]]) -> tuple[dict[tuple[int, ...], tuple[float, int]], int]:
    """Column and level of every node, a parent over the middle of its children; and how many levels there are."""
    places: dict[tuple[int, ...], tuple[float, int]] = {}
    leaves = 0
    for path in sorted(paths, key=lambda p: (p, len(p))):
        if not any(other[:-1] == path for other in paths if other):
            places[path], leaves = (leaves, len(path)), leaves + 1
    for path in sorted(set(paths) - places.keys(), key=len, reverse=True):
        below = [places[other][0] for other in paths if other and other[:-1] == path]
        places[path] = (sum(below) / len(below), len(path))
    return places, max(map(len, paths)) + 1


def heated(shown: Image, activation: NDArray[np.float32]) -> Image:
    """An activation (h, w) of 0..1 over a grey crop, stretched corner to corner."""
    from matplotlib import colormaps

    size = (shown.shape[1], shown.shape[0])
    heat = np.clip(cv2.resize(activation, size, interpolation=cv2.INTER_LINEAR), 0, 1)[..., None]
    grey = np.repeat(cv2.cvtColor(shown, cv2.COLOR_RGB2GRAY)[..., None], 3, 2).astype(np.float32)
    colour = 255 * colormaps["inferno"](heat[..., 0])[..., :3]
    opacity = 0.3 + 0.5 * heat
    return np.round(grey * (1 - opacity) + colour * opacity).astype(np.uint8)
