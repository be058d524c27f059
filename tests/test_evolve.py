"""Evolution: within the budget, better than chance, the same after every resume."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgepose.models.litepose import ARCHS  # noqa: E402
from edgepose.search import evolve  # noqa: E402
from edgepose.search.plan import Search  # noqa: E402
from edgepose.search.space import PAPER, Space  # noqa: E402

SPACE = Space.of(ARCHS["prune-l"][0], 512, PAPER)
LIMIT = 40.0


def cost(candidate):
    """A stand-in that is quick: pixels times channels, in millions."""
    return candidate.size**2 * sum(SPACE.values(candidate)[1:]) / 1e6


def fits(candidate):
    return cost(candidate) <= LIMIT


GOAL = SPACE.values(next(c for c in map(SPACE.draw, [np.random.default_rng(7)] * 999) if fits(c)))
TOP = SPACE.values(SPACE.biggest())


class Synthetic:
    """Scores fall with the distance from GOAL, where they are 0; counts what it is asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, candidates):
        self.asked += candidates
        return [self.one(c) for c in candidates]

    @staticmethod
    def one(candidate):
        return -sum(abs(a - b) / top for a, b, top in zip(SPACE.values(candidate), GOAL, TOP, strict=True))


@pytest.mark.parametrize("seed", range(3))
def test_evolution_finds_the_known_optimum_where_chance_does_not(seed):
    scorer, how = Synthetic(), Search(population=40, generations=25)
    found = evolve.evolve(SPACE, scorer, fits, how, seed)
    assert 40 < len(scorer.asked) == len(set(scorer.asked)) == len(found) <= 40 + 25 * 30, "nothing is scored twice"
    assert all(fits(c) for c in found)
    best = max(found, key=lambda c: found[c])
    chance = evolve.at_random(SPACE, Synthetic(), fits, len(found), seed)
    assert len(chance) == len(found) and all(fits(c) for c in chance)
    assert found[best] > -0.05 > max(chance.values())


def test_the_children_of_the_last_generation_count():
    best, after = [], []
    for generations in (0, 1):
        found = evolve.evolve(SPACE, Synthetic(), fits, Search(population=40, generations=generations), 1)
        best.append(max(found.values()))
        after.append(len(found))
    assert after == [40, 70] and best[1] > best[0]


def test_mutants_and_children_differ_as_they_should():
    draw = evolve.Drawer(SPACE, lambda c: True, 0)
    a, b = SPACE.smallest(), SPACE.biggest()
    children = [SPACE.values(draw.child([a, b])) for _ in range(400)]
    assert all(v in pair for row in children for v, *pair in zip(row, SPACE.values(a), SPACE.values(b), strict=True))
    assert np.mean([row[0] == b.size for row in children]) == pytest.approx(0.5, abs=0.08)
    mutants = np.array([SPACE.values(draw.mutant([a], 0.1)) for _ in range(2000)])
    changed = (mutants != SPACE.values(a)).mean(0)
    expected = [0.1 * (1 - 1 / len(options)) for _, options in SPACE.choices]
    assert changed == pytest.approx(expected, abs=0.03)


def test_the_same_seed_gives_the_same_search():
    how = Search(population=12, generations=4)
    runs = [list(evolve.evolve(SPACE, Synthetic(), fits, how, seed)) for seed in (3, 3, 4)]
    assert runs[0] == runs[1] != runs[2]


def test_a_budget_that_nothing_meets():
    with pytest.raises(ValueError, match=r"none of 20,000 candidates is within the budget"):
        evolve.evolve(SPACE, Synthetic(), lambda c: False, Search())


def test_a_space_smaller_than_a_generation():
    small = Space.of(ARCHS["prune-l"][0], 512, {"stem": (8, 16, 24)})
    found = evolve.evolve(
        small, lambda cs: [c.arch.stem for c in cs], lambda c: c.arch.stem < 24, Search(population=8, generations=3)
    )
    assert sorted(c.arch.stem for c in found) == [8, 16]


def test_the_front_is_what_nothing_beats():
    small = list(Space.of(ARCHS["prune-l"][0], 512, {"deconv_channels.0": (16, 32, 48, 64)}))
    scores = dict(zip(small, (0.1, 0.4, 0.3, 0.5), strict=True))
    front = evolve.front(scores, lambda c: c.arch.deconv_channels[0])
    assert [c.arch.deconv_channels[0] for c in front] == [16, 32, 64]


def test_nsga2_finds_a_front_in_one_run():
    pytest.importorskip("pymoo", reason="the extra `search` is not installed")
    scorer, how = Synthetic(), Search(population=40, generations=20)
    scores = evolve.nsga2(SPACE, scorer, cost, fits, how, 1)
    assert len(scorer.asked) == len(set(scorer.asked)) == len(scores)
    assert all(fits(c) for c in scores)
    again = evolve.nsga2(SPACE, Synthetic(), cost, fits, how, 1)
    assert scores == again
    front = evolve.front(scores, cost)
    chance = evolve.at_random(SPACE, Synthetic(), fits, len(scores), 1)
    assert len(front) >= 8
    for limit in np.linspace(cost(front[2]), LIMIT, 6):
        ours = max(s for c, s in scores.items() if cost(c) <= limit)
        theirs = max((s for c, s in chance.items() if cost(c) <= limit), default=-np.inf)
        assert ours >= theirs
