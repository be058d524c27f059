"""What a recipe says about its search. No torch here, so that recipes stay light."""

from __future__ import annotations

from dataclasses import dataclass, field

SCORES = ("AP", "peaks")


@dataclass(frozen=True)
class Search:
    """How a supernet is trained, and how its subnets are searched (LitePose, section 4; its settings are the defaults).

    `ValueError` names the setting that cannot be.
    """

    # field of the Arch, such as stem or channels.0, or "size", the input -> what a subnet may have; empty: no supernet
    space: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # subnets drawn at random for each training step
    subnets: int = 1
    # the largest and the smallest subnet learn at every step too (sandwich rule)
    sandwich: bool = False
    # the others also copy the largest one's maps, at kl_weight (in-place distillation; needs the sandwich)
    distil: bool = False
    # labelled photographs that are kept from training and judge the subnets
    hold: int = 300
    # batches that give a subnet BatchNorm statistics of its own before it is judged
    calibrate: int = 12
    # what the subnets are judged by: AP of the whole test, or peaks, the similarity of the best peak in a person's box
    score: str = "AP"
    # candidates of a generation
    population: int = 40
    # generations after the first
    generations: int = 40
    # share of a generation that lives on
    parents: float = 0.25
    # share of a generation that comes from two parents; the rest are mutants
    crossover: float = 0.5
    # chance of each choice of a mutant to be drawn anew
    mutation: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", {name: tuple(values) for name, values in self.space.items()})  # from JSON
        for name, good in (
            ("subnets", self.subnets > 0 or (self.subnets == 0 and self.sandwich)),
            ("distil", self.sandwich or not self.distil),
            ("hold", self.hold > 0),
            ("calibrate", self.calibrate > 0),
            ("score", self.score in SCORES),
            ("population", self.population >= 4),
            ("generations", self.generations >= 0),
            ("parents", 0 < self.parents < 1),
            ("crossover", 0 <= self.crossover <= 1 - self.parents),
            ("mutation", 0 < self.mutation <= 1),
        ):
            if not good:
                raise ValueError(f"a search cannot have {name} = {getattr(self, name)!r}")
