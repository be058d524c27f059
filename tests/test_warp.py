"""Warp: the half-pixel rule on real pixels, round trips, composition."""

import numpy as np
import pytest

from edgepose.poses import Poses
from edgepose.skeleton import COCO17
from edgepose.warp import Warp

POINTS = np.random.default_rng(0).uniform(-50, 300, (40, 2))
WARPS = [
    Warp.resize((640, 480), (384, 256)),
    Warp.around((100.5, 80.25), 0.7, (192, 256), rotation=33),
    Warp.around((210, 220), (0.5, 0.8), (64, 64), target=(31.5, 31.5)).mirrored(),
]


@pytest.mark.parametrize("warp", WARPS)
def test_round_trip_and_composition(warp):
    np.testing.assert_allclose(warp.back(warp(POINTS)), POINTS, atol=1e-3)
    other = Warp.around((5, 6), 2.0, (50, 60), rotation=-20)
    np.testing.assert_allclose(warp.then(other)(POINTS), other(warp(POINTS)), atol=1e-3)
    assert warp.then(other).size == (50, 60)
    np.testing.assert_allclose(warp.inverse.zoom * warp.zoom, 1)


@pytest.mark.parametrize("warp", [*WARPS, Warp.resize((60, 60), (120, 180))])
def test_a_dot_lands_where_its_coordinates_do(warp):
    place = np.rint(warp.back([[warp.size[0] / 2, warp.size[1] / 2]]))[0]
    image = np.zeros((500, 500), np.float32)
    rows, cols = np.mgrid[:500, :500]
    image += np.exp(-((cols - place[0]) ** 2 + (rows - place[1]) ** 2) / 50)
    seen = warp.apply(image)
    ys, xs = np.mgrid[: seen.shape[0], : seen.shape[1]]
    centre = np.array([(seen * xs).sum(), (seen * ys).sum()]) / seen.sum()
    np.testing.assert_allclose(centre, warp(place), atol=0.05)


def test_resize_maps_corner_to_corner():
    warp = Warp.resize((4, 2), (8, 8))
    np.testing.assert_allclose(warp([[-0.5, -0.5], [3.5, 1.5]]), [[-0.5, -0.5], [7.5, 7.5]])


def test_mirrored_is_the_mirrored_picture():
    warp = Warp.around((10, 12), 1.3, (40, 30), rotation=10)
    image = np.random.default_rng(0).integers(0, 255, (25, 22, 3), np.uint8)
    ours, plain = warp.mirrored().apply(image), warp.apply(image)[:, ::-1]
    np.testing.assert_allclose(ours.astype(int), plain.astype(int), atol=16)
    np.testing.assert_allclose(warp.mirrored()(POINTS)[:, 0], 39 - warp(POINTS)[:, 0], atol=1e-3)


def test_rotation_turns_about_the_centre():
    warp = Warp.around((50, 50), 1.0, (100, 100), rotation=90)
    np.testing.assert_allclose(warp([[50, 50], [60, 50]]), [[50, 50], [50, 40]], atol=1e-4)


def test_boxes_follow_the_people():
    truth = Poses(np.zeros((1, 17, 2)), np.ones((1, 17)), COCO17, boxes=np.array([[10, 20, 30, 60]]))
    boxes = Warp.resize((100, 100), (50, 200)).mirrored().poses(truth).boxes
    np.testing.assert_allclose(boxes, [[49 - 14.75, 40.5, 49 - 4.75, 120.5]])


def test_useless_matrices():
    with pytest.raises(ValueError, match="undone"):
        Warp(np.zeros((2, 3)), (1, 1))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        Warp(np.eye(3), (1, 1))
