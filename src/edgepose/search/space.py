"""Space: which subnets of a network, at which input sizes, a search may choose among."""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain, product
from typing import Any

import numpy as np

PAPER = {  # of LitePose (CVPR 2022); its width multipliers give a stem of 24, 24, 16 or 8, here each is as likely
    "size": (256, 320, 384, 448, 512),
    "stem": (8, 16, 24),
    **{f"channels.{i}": tuple(width * n // 4 for n in (1, 2, 3, 4)) for i, width in enumerate((32, 64, 96, 160))},
    "deconv_channels.0": (16, 32, 48, 64),
    "deconv_channels.1": (16, 24, 40, 48),
    "deconv_channels.2": (8, 16, 24, 32),
}
MULTIPLE = 64  # the bottom-up codec rounds the short side of its input up to it


@dataclass(frozen=True)
class Candidate:
    """A network's sizes (the `Arch` of its file) and the size of its input in pixels (short side)."""

    arch: Any
    size: int


@dataclass(frozen=True)
class Space:
    """Every candidate that differs from `largest` in the chosen fields alone.

    choices: ("size", or field of the Arch, with the place for one that is a tuple: "channels.2") -> what it may be, in
    rising order. `ValueError` for a field the Arch lacks, and for values above those of `largest`, whose weights all
    candidates share.
    """

    largest: Candidate
    choices: tuple[tuple[str, tuple[int, ...]], ...]

    @classmethod
    def of(cls, arch: Any, size: int, choices: Mapping[str, Sequence[int]]) -> Space:
        """The space over fields of `arch`, the largest network; `size` is its input unless "size" is chosen too."""
        given = tuple((name, tuple(sorted(values))) for name, values in choices.items())
        if not given:
            raise ValueError("a space needs choices, such as stem=[8,16,24]")
        return cls(Candidate(arch, max(dict(given).get("size", (size,)))), given)

    def __post_init__(self) -> None:
        for name, values in self.choices:
            if not values or len(set(values)) != len(values) or not all(type(v) is int and v > 0 for v in values):
                raise ValueError(f"the choices of {name} must be different positive whole numbers; got {values}")
            if name != "size":
                _check(self.largest, name)
            elif any(v % MULTIPLE for v in values):
                raise ValueError(f"input sizes must be multiples of {MULTIPLE} pixels; got {values}")
            most = _get(self.largest, name)
            if values[-1] > most:
                raise ValueError(f"{name} = {values[-1]} is more than the largest network's {most}")
            if name.split(".")[0] in ("kernels", "deconv_kernels") and any((most - v) % 2 for v in values):
                raise ValueError(f"{name} = {values}: a smaller kernel is the middle of the {most}x{most} one")

    def __len__(self) -> int:
        return math.prod(len(values) for _, values in self.choices)

    def __str__(self) -> str:
        rows = [f"  {name:<18} {', '.join(map(str, values))}" for name, values in self.choices]
        return "\n".join([f"{len(self):,} candidates", *rows])

    def __contains__(self, candidate: Candidate) -> bool:
        values = self.values(candidate)
        return all(v in options for v, (_, options) in zip(values, self.choices, strict=True)) and (
            self.candidate(values) == candidate
        )

    def __iter__(self) -> Iterator[Candidate]:
        return map(self.candidate, product(*(options for _, options in self.choices)))

    def candidate(self, values: Sequence[int]) -> Candidate:
        """The candidate with one value for every choice, in their order."""
        size, changed = self.largest.size, dict[str, Any]()
        for (name, _), value in zip(self.choices, values, strict=True):
            own, _, at = name.partition(".")
            if name == "size":
                size = int(value)
            elif at:
                changed.setdefault(own, list(getattr(self.largest.arch, own)))[int(at)] = int(value)
            else:
                changed[own] = int(value)
        changed = {own: tuple(v) if isinstance(v, list) else v for own, v in changed.items()}
        return Candidate(replace(self.largest.arch, **changed), size)

    def values(self, candidate: Candidate) -> tuple[int, ...]:
        """What the candidate has for every choice: `candidate` turned round."""
        return tuple(_get(candidate, name) for name, _ in self.choices)

    def smallest(self) -> Candidate:
        """The least of every choice."""
        return self.candidate([options[0] for _, options in self.choices])

    def biggest(self) -> Candidate:
        """The most of every choice; `largest` unless its own values are no choice."""
        return self.candidate([options[-1] for _, options in self.choices])

    def draw(self, rng: np.random.Generator) -> Candidate:
        """A candidate, all alike likely."""
        return self.candidate([options[int(rng.integers(len(options)))] for _, options in self.choices])


def covering(space: Space, parts: Callable[[Candidate], Iterable[Hashable]], draws: int = 5000) -> list[Candidate]:
    """Candidates that between them have every part that any has: all are looked at, or, of large spaces, `draws`."""
    rng, seen, found = np.random.default_rng(0), set[Hashable](), []
    rest = iter(space) if len(space) <= draws else (space.draw(rng) for _ in range(draws))
    for candidate in chain([space.biggest(), space.smallest()], rest):
        new = set(parts(candidate)) - seen
        if new:
            seen |= new
            found.append(candidate)
    return found


def _check(candidate: Candidate, name: str) -> None:
    """`ValueError` unless the Arch has the field `name`."""
    own, _, at = name.partition(".")
    known = [f.name for f in fields(candidate.arch)]
    if own not in known:
        raise ValueError(f"a space cannot choose {name!r}: {type(candidate.arch).__name__} has {', '.join(known)}")
    several = isinstance(getattr(candidate.arch, own), tuple)
    if several != at.isdecimal() or (several and int(at) >= len(getattr(candidate.arch, own))):
        wanted = f"{own}.0 to {own}.{len(getattr(candidate.arch, own)) - 1}" if several else own
        raise ValueError(f"a space cannot choose {name!r}: name {wanted}")


def _get(candidate: Candidate, name: str) -> int:
    if name == "size":
        return candidate.size
    own, _, at = name.partition(".")
    value = getattr(candidate.arch, own)
    return value[int(at)] if at else value
