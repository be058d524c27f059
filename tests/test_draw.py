import numpy as np
import pytest

from edgepose import COCO17, Poses, Skeleton
from edgepose.draw import DARK, LEFT, PEOPLE, RIGHT, dot, draw, line_width, strength

GREY = np.full((200, 300, 3), 120, np.uint8)


def people(xy, scores, skeleton=COCO17):
    return Poses(np.array(xy, np.float32), np.array(scores, np.float32), skeleton)


def standing(scale=1.0, offset=(100, 20), score=0.9):
    xy = np.zeros((1, 17, 2), np.float32)
    heights = {
        "nose": 0,
        "eye": -3,
        "ear": -1,
        "shoulder": 25,
        "elbow": 50,
        "wrist": 70,
        "hip": 75,
        "knee": 110,
        "ankle": 145,
    }
    for j, joint in enumerate(COCO17.joints):
        part = joint.split("_")[-1]
        side = {"left": 1, "right": -1, "middle": 0}[COCO17.side(joint)]
        xy[0, j] = (side * (5 if part in ("eye", "ear") else 22), heights[part])
    return people(xy * scale + offset, np.full((1, 17), score))


@pytest.mark.parametrize("centre", [(20, 20), (20.25, 19.6), (20.5, 20.5), (3.2, 36.9)])
def test_a_dot_is_where_it_should_be_to_a_twentieth_of_a_pixel(centre):
    canvas = np.zeros((48, 40, 3), np.uint8)
    dot(canvas, np.array(centre), 3.0, (255, 255, 255), 1.0)
    ink = canvas[..., 0].astype(float) / 255
    ys, xs = np.mgrid[:48, :40]
    assert ((ink * xs).sum() / ink.sum(), (ink * ys).sum() / ink.sum()) == pytest.approx(centre, abs=0.05)
    assert ink.sum() == pytest.approx(np.pi * 9, rel=0.06)


@pytest.mark.parametrize("centre", [(0, 0), (39, 47), (-0.4, 20), (39.4, 20.3)])
def test_a_dot_at_the_border_is_the_cut_off_part_of_the_whole_dot(centre):
    canvas, larger = np.zeros((48, 40, 3), np.uint8), np.zeros((68, 60, 3), np.uint8)
    dot(canvas, np.array(centre), 4.0, (255, 255, 255), 1.0)
    dot(larger, np.array(centre) + 10, 4.0, (255, 255, 255), 1.0)
    assert np.abs(canvas.astype(int) - larger[10:58, 10:50]).max() <= 3
    assert canvas.any()


def test_dots_outside_the_picture_and_broken_numbers_leave_no_trace():
    canvas = GREY.copy()
    for centre in ((-50, 3), (1e9, 1e9), (np.nan, 3), (np.inf, 3)):
        dot(canvas, np.array(centre), 3.0, (255, 0, 0), 1.0)
    assert (canvas == GREY).all()


def test_sides_have_their_colours_and_the_middle_the_persons():
    poses = standing()
    out = draw(GREY, poses)
    pose = poses.pose(0)
    at = lambda xy: tuple(int(v) for v in out[round(float(xy[1])), round(float(xy[0]))])  # noqa: E731
    assert at((pose["left_knee"] + pose["left_ankle"]) / 2) == pytest.approx(LEFT, abs=2)
    assert at((pose["right_knee"] + pose["right_ankle"]) / 2) == pytest.approx(RIGHT, abs=2)
    assert at((pose["left_hip"] + pose["right_hip"]) / 2) == pytest.approx(PEOPLE[0], abs=2)
    assert at(pose["nose"]) == pytest.approx(PEOPLE[0], abs=2)
    assert at(pose["left_ankle"]) == pytest.approx(LEFT, abs=2)


def test_people_are_told_apart_and_the_picture_is_not_changed():
    image = GREY.copy()
    both = people(
        np.concatenate([standing(offset=(80, 20)).xy, standing(offset=(200, 20)).xy]), [[0.9] * 17, [0.6] * 17]
    )
    out = draw(image, both)
    hips = [both.pose(i)["left_hip"] / 2 + both.pose(i)["right_hip"] / 2 for i in (0, 1)]
    assert [tuple(out[round(float(y)), round(float(x))]) for x, y in hips] == [PEOPLE[0], PEOPLE[1]]
    assert (image == GREY).all()


def test_unsure_joints_are_faint_and_missing_ones_absent():
    two = Skeleton("two", ("head", "tail"), (("head", "tail"),), (0.1, 0.1))
    place = [[[50, 50], [200, 120]]]
    inks = []
    for score in (0.9, 0.15, 0.01, 0.0):
        out = draw(GREY, people(place, [[0.9, score]], two))
        inks.append(np.abs(out[100:140, 180:220].astype(int) - 120).sum())
    assert inks[0] > inks[1] > inks[2] > inks[3] == 0
    assert strength(np.array([0.0, 0.01, 0.4, 1.0], np.float32)) == pytest.approx([0, 0.12, 1, 1])


def test_threshold_leaves_people_out():
    assert (draw(GREY, standing(score=0.3), threshold=0.31) == GREY).all()
    assert (draw(GREY, standing(score=0.3), threshold=0.29) != GREY).any()


def test_lines_grow_with_the_person():
    small, large = line_width(standing(0.5).pose(0)), line_width(standing(5).pose(0))
    assert small == 1.5
    assert large == pytest.approx(line_width(standing(4).pose(0)) * 5 / 4)
    image = np.full((900, 600, 3), 120, np.uint8)
    out = draw(image, standing(5, (300, 60)))
    row = out[60 + 5 * 127]  # between knee and ankle
    assert (np.abs(row.astype(int) - LEFT).sum(1) < 8).sum() == pytest.approx(large, abs=2)


def test_limbs_have_a_dark_rim():
    out = draw(GREY, standing())
    assert out.min() < 100
    assert max(DARK) < 40


def test_nobody():
    assert (draw(GREY, Poses.empty(COCO17)) == GREY).all()
