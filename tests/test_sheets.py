"""Contact sheets: what is shown where."""

import numpy as np
import pytest

from edgepose.draw import LEFT
from edgepose.poses import Poses
from edgepose.sheets import CELL, GAP, LINE, region, sheet, view
from edgepose.skeleton import COCO17


def test_region_holds_the_points_and_stays_in_the_picture():
    rng = np.random.default_rng(0)
    for _ in range(50):
        size = tuple(int(v) for v in rng.integers(50, 800, 2))
        points = rng.uniform(0, 1, (int(rng.integers(1, 9)), 2)) * (np.array(size) - 1)
        x0, y0, x1, y1 = region(size, points)
        assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1]
        assert (points >= [x0, y0]).all() and (points <= [x1, y1]).all()
    assert region((640, 480), np.zeros((0, 2))) == (0, 0, 640, 480)
    x0, y0, x1, y1 = region((2000, 2000), np.array([[500.0, 700.0]]))
    assert (x0 + x1) / 2 == pytest.approx(500, abs=1) and 350 < x1 - x0 < 700


def test_view_draws_people_where_they_are():
    """An elbow at a marked pixel of a part that is enlarged twice and lies in the middle of its cell."""
    image = np.zeros((480, 640, 3), np.uint8)
    part = (100, 50, 200, 174)  # 100 x 124 pixels: twice as large it is as high as a cell, and narrower
    xy, scores = np.zeros((1, 17, 2), np.float32), np.zeros((1, 17), np.float32)
    xy[0, COCO17.index["left_elbow"]] = (130, 90)
    scores[0, COCO17.index["left_elbow"]] = 1
    out = view(image, Poses(xy, scores, COCO17), part)
    assert out.shape == (CELL[1], CELL[0], 3)
    ys, xs = np.nonzero((out == LEFT).all(-1))
    left = (CELL[0] - 200) // 2
    assert np.mean(xs) == pytest.approx(left + 2 * (30 + 0.5) - 0.5, abs=0.6)
    assert np.mean(ys) == pytest.approx(2 * (40 + 0.5) - 0.5, abs=0.6)
    assert (out[:, : left - 1] == 228).all() and (out[5, left + 5] == 0).all()


def test_sheet_puts_groups_in_reading_order():
    cell = lambda shade: np.full((CELL[1], CELL[0], 3), shade, np.uint8)  # noqa: E731
    out = sheet([[(cell(10 * g + k), "text") for k in range(2)] for g in range(1, 4)], columns=2)
    high, wide = CELL[1] + LINE + GAP, 2 * (CELL[0] + GAP // 2) + 2 * GAP
    for group, (row, column) in ((1, (0, 0)), (2, (0, 1)), (3, (1, 0))):
        for k in range(2):
            y, x = row * high + GAP + LINE + 9, column * wide + GAP + k * (CELL[0] + GAP // 2) + 9
            assert (out[y, x] == 10 * group + k).all()
            assert out[y - 12 - LINE // 2 : y - 10, x : x + 30].min() < 100  # the line of text
