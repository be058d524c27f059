"""The search space: counted exactly, typed, printable; every released LitePose lies in the paper's."""

from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from edgepose.models import higherhrnet  # noqa: E402
from edgepose.models.litepose import ARCHS, Arch  # noqa: E402
from edgepose.search.space import PAPER, Candidate, Space  # noqa: E402

SPACE = Space.of(ARCHS["prune-l"][0], 512, PAPER)
SMALL = Space.of(Arch(), 256, {"size": (128, 64), "stem": (8, 16), "channels.2": (24, 48, 32)})


def test_the_papers_space():
    assert len(SPACE) == 245_760
    assert SPACE.biggest() == SPACE.largest == Candidate(*ARCHS["prune-l"])
    for name, released in ARCHS.items():
        assert Candidate(*released) in SPACE, name
    assert Candidate(Arch(blocks=(4, 6, 8, 8)), 256) not in SPACE
    assert Candidate(Arch(stem=12), 256) not in SPACE
    assert Candidate(Arch(), 192) not in SPACE


def test_a_space_is_counted_by_going_through_it():
    found = list(SMALL)
    assert len(found) == len(set(found)) == len(SMALL) == 12
    assert all(c in SMALL and SMALL.candidate(SMALL.values(c)) == c for c in found)
    assert SMALL.smallest() == Candidate(replace(Arch(), stem=8, channels=(16, 32, 24, 80)), 64)
    assert SMALL.biggest() == Candidate(Arch(), 128)


def test_a_space_prints_itself():
    rows = ["size               64, 128", "stem               8, 16", "channels.2         24, 32, 48"]
    assert str(SMALL).splitlines() == ["12 candidates", *(f"  {row}" for row in rows)]


def test_draws_are_uniform_over_all_choices():
    rng = np.random.default_rng(0)
    drawn = [SPACE.values(SPACE.draw(rng)) for _ in range(3000)]
    for i, (_, options) in enumerate(SPACE.choices):
        counts = [sum(row[i] == option for row in drawn) / 3000 for option in options]
        assert counts == pytest.approx([1 / len(options)] * len(options), abs=0.05)


def test_any_field_of_any_network():
    deep = Space.of(Arch(), 256, {"blocks.3": (6, 10), "kernels.0": (3, 5, 7), "expansion": (3, 6)})
    assert len(deep) == 12 and deep.smallest().arch.blocks == (6, 8, 10, 6)
    other = Space.of(higherhrnet.Arch(), 512, {"deconv_blocks": (1, 2, 4)})
    assert [c.arch.deconv_blocks for c in other] == [1, 2, 4]


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({}, "needs choices"),
        ({"width": (8,)}, "cannot choose 'width': Arch has joints"),
        ({"channels": (8,)}, "name channels.0 to channels.3"),
        ({"channels.4": (8,)}, "name channels.0 to channels.3"),
        ({"stem.0": (8,)}, "name stem"),
        ({"stem": (8, 8)}, "different positive whole numbers"),
        ({"stem": (0, 8)}, "different positive whole numbers"),
        ({"stem": (8, 24)}, "stem = 24 is more than the largest network's 16"),
        ({"size": (100,)}, "multiples of 64"),
        ({"kernels.1": (4, 7)}, "the middle of the 7x7"),
    ],
)
def test_impossible_spaces_are_named(choices, message):
    with pytest.raises(ValueError, match=message):
        Space.of(Arch(), 256, choices)
