"""Evolution: LitePose's search under a hard budget (section 4), random search, and a Pareto front by NSGA-II.

All are functions of the seed and the scores alone. Scores are remembered by whoever gives them (`score.Scores`), so a
search that was killed is run again from the start, and passes through everything it had scored in no time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from edgepose.search.plan import Search
from edgepose.search.space import Candidate, Space

Evaluate = Callable[[Sequence[Candidate]], Sequence[float]]  # scores, higher is better, of different candidates
Fits = Callable[[Candidate], bool]
TRIES = 20_000  # draws for one candidate within the budget
AGAIN = 50  # draws for one that is new as well


class Drawer:
    """Draws candidates within the budget by rejection; `ValueError` if too few of them are."""

    def __init__(self, space: Space, fits: Fits, seed: int) -> None:
        self.space = space
        self.fits = fits
        self.rng = np.random.default_rng(seed)

    def __call__(self, make: Callable[[], Candidate], taken: set[Candidate]) -> Candidate:
        """What `make` gives, once it is within the budget; one that is not `taken`, if that is to be had quickly."""
        again = None  # one that is taken; such have passed already
        for tries in range(TRIES):
            found = make()
            if found in taken:
                again = found
            elif self.fits(found):
                return found
            if again and tries >= AGAIN:
                return again
        raise ValueError(f"none of {TRIES:,} candidates is within the budget; widen it, or the space:\n{self.space}")

    def random(self) -> Candidate:
        """Any candidate of the space."""
        return self.space.draw(self.rng)

    def mutant(self, parents: Sequence[Candidate], chance: float) -> Candidate:
        """One of `parents` with every choice drawn anew with probability `chance`."""
        other = self.space.values(self.random())
        own = self.space.values(self.one(parents))
        anew = self.rng.random(len(own)) < chance
        return self.space.candidate([b if new else a for a, b, new in zip(own, other, anew, strict=True)])

    def child(self, parents: Sequence[Candidate]) -> Candidate:
        """Every choice from either of two parents."""
        a, b = (self.space.values(self.one(parents)) for _ in range(2))
        first = self.rng.random(len(a)) < 0.5
        return self.space.candidate([x if own else y for x, y, own in zip(a, b, first, strict=True)])

    def one(self, parents: Sequence[Candidate]) -> Candidate:
        """A parent at random."""
        return parents[int(self.rng.integers(len(parents)))]

    def several(self, count: int, make: Callable[[], Candidate], taken: Iterable[Candidate] = ()) -> list[Candidate]:
        """`count` candidates of `make`, different from one another and from `taken` where that is possible."""
        found, known = [], set(taken)
        for _ in range(count):
            found.append(self(make, known))
            known.add(found[-1])
        return found


def evolve(
    space: Space, evaluate: Evaluate, fits: Fits, how: Search, seed: int = 0, after: Callable[[], None] = lambda: None
) -> dict[Candidate, float]:
    """Every candidate that was scored, with its score, by the evolution of LitePose.

    Of each generation the best `parents` live on; the rest of the next one are children of two of these (`crossover`)
    and mutants, such as were not scored before where there are any. The children of the last generation are scored too.
    after: called after every generation.
    """
    draw, scores = Drawer(space, fits, seed), dict[Candidate, float]()
    people = draw.several(how.population, draw.random)
    keep, crossed = max(1, round(how.parents * how.population)), round(how.crossover * how.population)
    for generation in range(how.generations + 1):
        fresh = list(dict.fromkeys(c for c in people if c not in scores))
        scores |= dict(zip(fresh, evaluate(fresh), strict=True))
        after()
        if generation == how.generations:
            break
        parents = sorted(dict.fromkeys(people), key=lambda c: -scores[c])[:keep]
        children = draw.several(crossed, partial(draw.child, parents), scores)
        mutants = how.population - len(parents) - len(children)
        people = parents + children
        people += draw.several(mutants, partial(draw.mutant, parents, how.mutation), {*scores, *children})
    return scores


def at_random(space: Space, evaluate: Evaluate, fits: Fits, count: int, seed: int = 0) -> dict[Candidate, float]:
    """`count` candidates within the budget, drawn at random, with their scores: what a search has to beat."""
    draw = Drawer(space, fits, seed)
    drawn = list(dict.fromkeys(draw.several(count, draw.random)))
    return dict(zip(drawn, evaluate(drawn), strict=True))


def front(scores: dict[Candidate, float], costs: Callable[[Candidate], float]) -> list[Candidate]:
    """The candidates that no other beats in both cost and score, by rising cost."""
    best, found = -np.inf, []
    for candidate in sorted(scores, key=lambda c: (costs(c), -scores[c])):
        if scores[candidate] > best:
            best = scores[candidate]
            found.append(candidate)
    return found


def nsga2(
    space: Space, evaluate: Evaluate, costs: Callable[[Candidate], float], fits: Fits, how: Search, seed: int = 0,
    after: Callable[[], None] = lambda: None,
) -> dict[Candidate, float]:  # fmt: skip
    """Every candidate that was scored, by NSGA-II (Deb et al., 2002; pymoo's): most score for every cost in one run.

    Candidates beyond the budget are not scored. Needs the extra `search`.
    """
    from pymoo.algorithms.moo.nsga2 import NSGA2  # pyright: ignore[reportMissingImports]
    from pymoo.core.problem import Problem  # pyright: ignore[reportMissingImports]
    from pymoo.operators.crossover.ux import UX  # pyright: ignore[reportMissingImports]
    from pymoo.operators.mutation.pm import PM  # pyright: ignore[reportMissingImports]
    from pymoo.operators.repair.rounding import RoundingRepair  # pyright: ignore[reportMissingImports]

    options = [values for _, values in space.choices]
    scores: dict[Candidate, float] = {}

    def decode(places: Any) -> list[Candidate]:
        return [space.candidate([o[int(i)] for o, i in zip(options, row, strict=True)]) for row in places]

    class Places(Problem):
        """Places in the lists of choices -> (-score, cost); above 0 in `G`: beyond the budget."""

        def _evaluate(self, x: Any, out: Any, *_args: Any, **_kwargs: Any) -> None:
            candidates = decode(x)
            good = [fits(c) for c in candidates]
            within = dict.fromkeys(c for c, ok in zip(candidates, good, strict=True) if ok)
            fresh = [c for c in within if c not in scores]
            scores.update(zip(fresh, evaluate(fresh), strict=True))
            out["F"] = np.array([[-scores.get(c, 0.0), costs(c)] for c in candidates])
            out["G"] = np.array([[0.0 if ok else 1.0] for ok in good])
            after()

    draw = Drawer(space, fits, seed)
    first = [space.values(c) for c in draw.several(how.population, draw.random)]
    begin = np.array([[o.index(v) for o, v in zip(options, row, strict=True)] for row in first])
    top = np.array([len(o) - 1 for o in options])
    problem = Places(n_var=len(options), n_obj=2, n_ieq_constr=1, xl=np.zeros_like(top), xu=top, vtype=int)
    mutation = PM(prob_var=how.mutation, vtype=float, repair=RoundingRepair())
    algorithm = NSGA2(how.population, sampling=begin, crossover=UX(), mutation=mutation)
    algorithm.setup(problem, termination=("n_gen", how.generations + 1), seed=seed, verbose=False)
    for _ in islice(iter(algorithm.has_next, False), how.generations + 1):
        algorithm.next()
    return scores
