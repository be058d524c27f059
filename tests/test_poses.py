"""Poses: shapes, picking, mirroring."""

import numpy as np
import pytest

from edgepose.poses import Poses
from edgepose.skeleton import COCO17

XY = np.random.default_rng(0).uniform(0, 90, (3, 17, 2))


def test_mirrored_swaps_sides_and_undoes_itself():
    poses = Poses(XY, np.arange(51).reshape(3, 17), COCO17, ids=[4, 5, 6], boxes=[[1, 2, 3, 4]] * 3)
    mirror = poses.mirrored(100)
    x, y = poses.pose(1)["left_wrist"]
    np.testing.assert_allclose(mirror.pose(1)["right_wrist"], [99 - x, y], rtol=1e-6)
    assert mirror.scores[1, COCO17.index["right_wrist"]] == poses.scores[1, COCO17.index["left_wrist"]]
    np.testing.assert_array_equal(mirror.boxes[0], [96, 2, 98, 4])
    np.testing.assert_allclose(mirror.mirrored(100).xy, poses.xy, atol=1e-4)


def test_picking_people():
    poses = Poses(XY, np.ones((3, 17)), COCO17, person_scores=[0.1, 0.9, 0.5], ids=[7, 8, 9])
    best = poses[poses.person_scores > 0.3]
    assert best.ids.tolist() == [8, 9] and len(poses[0]) == 1 and [p.id for p in poses] == [7, 8, 9]
    with pytest.raises(KeyError, match="left_wing"):
        poses.pose(0)["left_wing"]


def test_defaults_and_nobody():
    scores = np.zeros((3, 17))
    scores[0, :2] = 0.85
    np.testing.assert_allclose(Poses(XY, scores, COCO17).person_scores, [0.1, 0, 0], rtol=1e-6)
    assert len(Poses.empty(COCO17)) == 0 and len(Poses.empty(COCO17).mirrored(10)) == 0


@pytest.mark.parametrize(
    "bad", [{"xy": XY[:, :5]}, {"scores": np.ones((3, 4))}, {"ids": [1]}, {"boxes": np.ones((2, 4))}]
)
def test_shapes_that_disagree(bad):
    with pytest.raises(ValueError, match="shape"):
        Poses(**{"xy": XY, "scores": np.ones((3, 17)), "skeleton": COCO17} | bad)
