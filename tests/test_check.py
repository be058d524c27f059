"""`edgepose data check`: each fault is found, sound labels are left alone, swapped sides are suspected."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgepose import check, cli
from edgepose.data import coco
from edgepose.data._sides import swapped
from edgepose.poses import Pose
from edgepose.skeleton import COCO17, LSP14, MPII16, Skeleton

FRONT = {  # a person who faces the camera, arms down; torso 60 pixels long
    "nose": (100, 40), "left_eye": (106, 34), "right_eye": (94, 34), "left_ear": (112, 38), "right_ear": (88, 38),
    "left_shoulder": (120, 65), "right_shoulder": (80, 65), "left_elbow": (126, 97), "right_elbow": (74, 97),
    "left_wrist": (128, 127), "right_wrist": (72, 127), "left_hip": (112, 125), "right_hip": (88, 125),
    "left_knee": (113, 170), "right_knee": (87, 170), "left_ankle": (113, 212), "right_ankle": (87, 212),
}  # fmt: skip


def pose(joints, skeleton=COCO17):
    xy = np.array([joints.get(j, (0, 0)) for j in skeleton.joints], np.float32)
    there = np.array([j in joints for j in skeleton.joints], np.float32)
    return Pose(xy, there, skeleton, 1.0)


def swap(joints, *parts):
    out = dict(joints)
    for part in parts:
        out[f"left_{part}"], out[f"right_{part}"] = joints[f"right_{part}"], joints[f"left_{part}"]
    return out


def turned(joints, degrees):
    turn = np.deg2rad(degrees)
    c, s = np.cos(turn), np.sin(turn)
    moved = {j: (x - 100, y - 100) for j, (x, y) in joints.items()}
    return {j: (100 + c * x - s * y, 100 + s * x + c * y) for j, (x, y) in moved.items()}


BACK = {j: (200 - x, y) for j, (x, y) in FRONT.items() if j not in ("nose", "left_eye", "right_eye")}
SIDE = {j: (100 + 0.1 * (x - 100), y) for j, (x, y) in FRONT.items()}


@pytest.mark.parametrize("angle", [0, 40, 90, 180, 250])
@pytest.mark.parametrize("joints", [FRONT, BACK, SIDE], ids=["front", "back", "side"])
def test_sound_people_are_not_suspected_whatever_way_up(joints, angle):
    assert swapped(pose(turned(joints, angle))) == []


LIMBS = ("shoulder", "elbow", "wrist", "hip", "knee", "ankle")


@pytest.mark.parametrize(
    ("joints", "parts", "reason"),
    [
        (FRONT, ("hip", "knee", "ankle"), "shoulders and hips"),
        (BACK, ("hip", "knee", "ankle"), "shoulders and hips"),
        (FRONT, ("elbow", "wrist"), "elbows belong to the other shoulder"),
        (FRONT, LIMBS, "shoulders from behind"),
        (FRONT, (*LIMBS, "eye", "ear"), "the eyes are swapped"),
        (FRONT, ("eye",), "the eyes are swapped"),
    ],
)
@pytest.mark.parametrize("angle", [0, 130])
def test_swapped_people_are_suspected(joints, parts, reason, angle):
    (found,) = swapped(pose(turned(swap(joints, *parts), angle)))
    assert reason in found


def test_wide_legs_that_are_swapped_are_suspected():
    astride = FRONT | {"left_knee": (150, 160), "right_knee": (50, 160), "left_ankle": (160, 205)}
    astride["right_ankle"] = (40, 205)
    assert swapped(pose(astride)) == []
    assert swapped(pose(swap(astride, "knee", "ankle"))) == ["knees belong to the other hip"]
    crossed = FRONT | {"left_knee": (96, 165), "right_knee": (104, 165)}
    assert swapped(pose(crossed)) == []


def test_a_hidden_face_says_nothing():
    wrong = swap(FRONT, "eye")
    visible = np.array([1 if j in ("nose", "left_eye", "right_eye") else 2 for j in COCO17.joints], np.uint8)
    assert swapped(pose(wrong)) != [] and swapped(pose(wrong), visible) == []


def test_small_people_and_other_skeletons():
    small = {j: (x / 10, y / 10) for j, (x, y) in swap(FRONT, "hip").items()}
    assert swapped(pose(small)) == []
    for skeleton in (MPII16, LSP14):
        assert swapped(pose({j: xy for j, xy in FRONT.items() if j in skeleton.joints}, skeleton)) == []
        wrong = {j: xy for j, xy in swap(FRONT, "hip").items() if j in skeleton.joints}
        assert swapped(pose(wrong, skeleton)) == ["shoulders and hips point opposite ways"]
    assert swapped(pose({"tail": (5, 5)}, Skeleton("cow", ("tail",), (), (0.1,)))) == []


@pytest.fixture
def root(tmp_path):
    """Four sound pictures with one person each."""
    (tmp_path / "coco_small").mkdir()
    for i in range(4):
        cv2.imwrite(str(tmp_path / "coco_small" / f"{i}.jpg"), np.full((240, 200, 3), 40 * i, np.uint8))
    write(tmp_path, [person(i) for i in range(4)])
    return tmp_path


def person(i, joints=FRONT, **more):
    keypoints = [v for j in COCO17.joints for v in ((*joints[j], 2) if j in joints else (0, 0, 0))]
    row = {"id": 10 + i, "image_id": i, "category_id": 1, "num_keypoints": len(joints), "keypoints": keypoints}
    return row | {"bbox": [65, 25, 70, 195], "area": 5000.0, "iscrowd": 0} | more


def write(root, people, **picture):
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 200, "height": 240} for i in range(4)]
    images[2] |= picture
    (root / "coco_small.json").write_text(json.dumps({"images": images, "annotations": people}))


def kinds(root):
    return sorted((f.kind, f.name, f.person) for f in check.check(coco.read(root, "small")))


def test_a_sound_set_is_clean(root):
    assert kinds(root) == []


@pytest.mark.parametrize(
    ("changed", "picture", "want"),
    [
        ({}, {"width": 240, "height": 200}, [("outside", "2.jpg", 0), ("size", "2.jpg", None)]),
        ({}, {"id": 1}, [("id", f"{i}.jpg", None) for i in (1, 1, 2, 2)]),  # the person is in both pictures
        ({}, {"file_name": "1.jpg"}, [("id", "1.jpg", None), ("id", "1.jpg", None)]),
        ({"id": 10}, {}, [("id", "0.jpg", None), ("id", "2.jpg", None)]),
        ({"joints": FRONT | {"nose": (203, 9)}}, {}, [("box", "2.jpg", 0), ("outside", "2.jpg", 0)]),
        ({"joints": FRONT | {"nose": (200, 9)}, "bbox": [0, 0, 200, 240]}, {}, []),
        ({"joints": FRONT | {"nose": (float("nan"), 9)}}, {}, [("number", "2.jpg", 0)]),
        ({"area": 0.0}, {}, [("area", "2.jpg", 0)]),
        ({"bbox": [65, 25, 30, 100]}, {}, [("box", "2.jpg", 0)]),
        ({"joints": swap(FRONT, "hip")}, {}, [("side", "2.jpg", 0)]),
    ],
)
def test_each_fault_is_found(root, changed, picture, want):
    people = [person(i) for i in (0, 1, 3)] if "id" in picture else [person(i) for i in (0, 1, 2, 3)]
    if "id" not in picture:
        people[2] = person(2, **changed)
    write(root, people, **picture)
    found = [f for f in kinds(root) if f[0] != "twin"]
    assert found == want


def test_a_picture_on_its_side_is_called_that(root):
    write(root, [], width=240, height=200)
    (finding,) = check.check(coco.read(root, "small"))
    assert finding.text == "is 200 x 240, the labels say 240 x 200; turned by its EXIF orientation?"


def test_pictures_that_cannot_be_read_and_people_labelled_twice(root):
    (root / "coco_small" / "0.jpg").unlink()
    (root / "coco_small" / "1.jpg").write_bytes(b"\xff\xd8 not a picture")
    nudged = {j: (x + 0.3, y) for j, (x, y) in FRONT.items()}
    beside = {j: (x + 20, y) for j, (x, y) in FRONT.items()}
    write(
        root,
        [person(i) for i in range(4)] + [person(2, nudged, id=90), person(3, beside, id=91, bbox=[85, 25, 70, 195])],
    )
    assert kinds(root) == [("picture", "0.jpg", None), ("picture", "1.jpg", None), ("twin", "2.jpg", 1)]


def test_hidden_joints_may_leave_the_box(root):
    record = coco.read(root, "small")[0]
    small = replace(record, truth=replace(record.truth, boxes=np.array([[65, 25, 135, 140]], np.float32)))
    assert [f.text for f in check.check([small])] == ["outside the box: left_knee, right_knee, left_ankle, right_ankle"]
    visible = np.where(np.array(["knee" in j or "ankle" in j for j in COCO17.joints]), 1, 2)[None].astype(np.uint8)
    assert check.check([replace(small, visible=visible)]) == []


def test_the_command(root, capsys):
    args = ["data", "check", str(root), "--data", "coco", "--split", "small", "--out", str(root / "out")]
    assert cli.main(args) == 0
    out = capsys.readouterr().out
    assert "coco small: 4 pictures, 0 of them without labelled people" in out
    assert [line.split() for line in out.splitlines() if "left_wrist" in line] == [["left_wrist", "4", "100", "%", "0"]]
    assert (root / "out" / "labels.jpg").exists() and not (root / "out" / "suspects.jpg").exists()
    assert json.loads((root / "out" / "findings.json").read_text()) == []
    write(root, [person(0), person(1), person(2, swap(FRONT, "hip")), person(3, area=0.0)])
    assert cli.main(args) == 1
    out = capsys.readouterr().out
    assert [line.split()[:2] for line in out.splitlines() if "no area" in line] == [["ERROR", "1"]]
    assert "2.jpg: shoulders and hips point opposite ways" in out
    found = json.loads((root / "out" / "findings.json").read_text())
    assert {(f["kind"], f["picture"]) for f in found} == {("area", "3.jpg"), ("side", "2.jpg")}
    drawn = cv2.imread(str(root / "out" / "suspects.jpg"))
    assert drawn.shape[:2] == (22 + 322, 600)
    orange = (drawn[..., 2].astype(int) - drawn[..., 0] > 120).sum()
    assert orange > 500  # left limbs


def test_only_doubts_are_no_error(root):
    write(root, [person(0), person(1), person(2, swap(FRONT, "hip")), person(3)])
    assert cli.main(["data", "check", str(root), "--data", "coco", "--split", "small"]) == 0


def test_misuse_of_the_command(root, capsys):
    assert cli.main(["data", "check", str(root), "--data", "cocoo"]) == 2
    assert "Did you mean 'coco'" in capsys.readouterr().err
    assert cli.main(["data", "check", str(root), "--data", "custom"]) == 2
    assert "no labels for 'train'" in capsys.readouterr().err
    with pytest.raises(SystemExit) as stopped:
        cli.main(["data", "--help"])
    assert stopped.value.code == 0
    said = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "edgepose data check --help" in said and "edgepose data convert --help" in said
