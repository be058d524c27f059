"""Boxes from poses, people found twice, and the two steps together."""

from dataclasses import replace

import _tiny
import numpy as np
import pytest

import edgepose
from edgepose import detect
from edgepose.card import Card
from edgepose.codecs.topdown import TopDown
from edgepose.poses import Poses
from edgepose.predictor import Predictor
from edgepose.skeleton import COCO17


def people(*offsets, scores=None, size=100.0):
    """Copies of one person of `size` pixels, moved by `offsets`."""
    rng = np.random.default_rng(0)
    xy = rng.uniform(0, size, (17, 2)) + np.array(offsets, float)[:, None]
    given = np.ones(len(offsets)) if scores is None else np.array(scores)
    return Poses(xy.astype(np.float32), np.full((len(offsets), 17), 0.5, np.float32), COCO17, given.astype(np.float32))


def test_boxes_hold_the_sure_joints_and_a_margin():
    poses = people((0, 0), (300, 50))
    scores = poses.scores.copy()
    scores[1, 3:] = 0.01
    scores[0, 0] = 0.0
    xy = poses.xy.copy()
    xy[0, 0] = (900, 900)  # a joint that was not found
    found = detect.boxes(replace(poses, xy=xy, scores=scores), sure=0.15, margin=0.1)
    for box, joints in ((found[0], xy[0, 1:]), (found[1], xy[1, :3])):
        low, high = joints.min(0), joints.max(0)
        rim = 0.1 * (high - low).max()
        np.testing.assert_allclose(box, [*(low - rim), *(high + rim)], rtol=1e-5)
    scores[1] = 0.01
    low, high = xy[1].min(0), xy[1].max(0)
    around = detect.boxes(replace(poses, scores=scores), margin=0)[1]
    np.testing.assert_allclose(around, [*low, *high], rtol=1e-5)


def test_people_found_twice_are_kept_once_and_neighbours_are_kept():
    poses = people((2, 1), (0, 0), (60, 0), (0, 3), scores=[0.5, 0.9, 0.7, 0.2])
    kept = detect.distinct(poses)
    np.testing.assert_array_equal(kept.person_scores, np.float32([0.9, 0.7]))
    np.testing.assert_array_equal(kept.xy[0], poses.xy[1])
    far = people((0, 0), (8, 0), size=20.0)
    assert len(detect.distinct(far)) == 2, "eight pixels are much for a small person"
    assert len(detect.distinct(people((0, 0), (8, 0), size=400.0))) == 1
    assert len(detect.distinct(Poses.empty(COCO17))) == 0


def test_a_detector_from_poses_leaves_out_the_faint():
    poses = people((0, 0), (200, 0), scores=[0.5, 0.01])
    found, trust = detect.from_poses(lambda image: poses)(np.zeros((9, 9, 3), np.uint8))
    np.testing.assert_array_equal(found, detect.boxes(poses)[:1])
    assert trust.tolist() == [0.5]


def test_two_steps_find_the_people_look_at_each_and_weigh_both_scores():
    image, seen = np.zeros((200, 500, 3), np.uint8), []
    codec = TopDown(COCO17, (96, 128), flip=False)

    def run(batch):
        seen.append(len(batch))
        maps = np.zeros((len(batch), 17, 32, 24), np.float32)
        for k in range(17):
            maps[:, k, 8 + k, 4 + (5 * k) % 17] = 0.8
        return [maps]

    boxes = np.float32([[10, 10, 90, 180], [300, 20, 380, 190], [12, 10, 92, 180]])
    card = Card("efficientlite-0-person", {}, codec)
    both = Predictor(card, codec, run, lambda picture: (boxes, np.float32([0.5, 1.0, 0.25])))
    found = both(image)
    assert seen == [3, 2], "three glances where the detector says, two looks where the distinct people are"
    np.testing.assert_allclose(found.person_scores, np.cbrt([0.64, 0.32]), rtol=1e-5)
    assert np.abs(found.xy[0].mean(0) - (340, 105)).max() < 4 and np.abs(found.xy[1].mean(0) - (50, 95)).max() < 4
    flipping = Predictor(card, replace(codec, flip=True), run, both.detect)
    flipping(image)
    assert seen[2:] == [3, 4], "only the second look takes the mirrored picture"
    far = np.concatenate([boxes, [[150, 20, 230, 190]]]).astype(np.float32)
    doubted = Predictor(card, codec, run, lambda picture: (far, np.float32([0.5, 1.0, 0.25, 1e-7])))
    assert len(doubted(image)) == 2 and seen[4:] == [4, 2], "who is all too faint gets no second look"
    nobody = Predictor(card, codec, run, lambda picture: (np.zeros((0, 4), np.float32), np.zeros(0, np.float32)))
    assert len(nobody(image)) == 0
    given = both(image, boxes)
    assert len(given) == 3, "given boxes are all answered, and the detector is not asked"
    np.testing.assert_allclose(given.person_scores, 0.8, rtol=1e-5)


def test_a_bottom_up_model_refuses_a_detector(tmp_path):
    folder = _tiny.model(tmp_path)
    with pytest.raises(ValueError, match="looks at whole pictures and needs no detector"):
        edgepose.load(folder, detector="efficientlite-0")
