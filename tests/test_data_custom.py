"""A person's own photographs: COCO JSON and YOLO layouts, and the many ways to spell a left eye."""

import json

import cv2
import numpy as np
import pytest
import yaml

from edgepose.data import custom, yolo
from edgepose.data._names import custom_skeleton, sided
from edgepose.skeleton import COCO17


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ("left_eye", "left_eye"), ("LeftEye", "left_eye"), ("l_eye", "left_eye"), ("eye.R", "right_eye"),
        ("Right Wrist", "right_wrist"), ("rightShoulder", "right_shoulder"), ("leftshoulder", "left_shoulder"),
        ("nose", "nose"), ("Head Top", "head_top"), ("elbow-left", "left_elbow"), ("left", "left"), ("tail", "tail"),
        ("upper_l", "left_upper"), ("jäw", "j_w"),
    ],
)  # fmt: skip
def test_sides_are_found_in_names(given, want):
    assert sided(given) == want


def test_names_of_a_known_skeleton_give_it():
    spelt = [j.replace("left_", "L ").replace("right_", "R ") for j in COCO17.joints]
    assert custom_skeleton("mine", spelt) is COCO17


def test_flip_index_makes_pairs_of_names_without_sides():
    skeleton = custom_skeleton("cow", ["nose", "horn_a", "horn_b", "tail"], [(0, 3)], [0, 2, 1, 3])
    assert skeleton.mirror == (0, 2, 1, 3)
    assert skeleton.joints == ("nose", "left_horn_a", "right_horn_a", "tail")
    assert skeleton.limbs == (("nose", "tail"),)


@pytest.mark.parametrize(
    ("joints", "limbs", "mirror", "match"),
    [
        (["a", "b", "c"], (), [1, 2, 0], "must swap pairs"),
        (["a", "b"], (), [0, 1, 2], "must swap pairs"),
        (["left_a", "right_a"], (), [0, 1], "'left_a' is in the middle"),
        (["a", "b"], [(0, 2)], None, "not one of its 2"),
        (["a", "b"], [(-1, 0)], None, "not one of its 2"),
        (["left_a", "b"], (), None, "no mirror joint 'right_a'"),
    ],
)
def test_names_that_make_no_sense_are_refused(joints, limbs, mirror, match):
    with pytest.raises(ValueError, match=match):
        custom_skeleton("mine", joints, limbs, mirror)


def picture(path, size=(200, 100)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), 90, np.uint8))


LABELS = {
    "images": [{"id": 3, "file_name": "a.png", "width": 200, "height": 100}],
    "annotations": [
        {"id": 9, "image_id": 3, "category_id": 2, "keypoints": [10, 20, 2, 30, 60, 1, 0, 0, 0]},
        {"id": 10, "image_id": 3, "category_id": 2, "keypoints": [0] * 9, "bbox": [1, 2, 30, 40]},
        {"id": 11, "image_id": 3, "category_id": 1, "bbox": [1, 2, 3, 4]},
    ],
    "categories": [
        {"id": 1, "name": "ball"},
        {"id": 2, "name": "person", "keypoints": ["Head", "LeftHand", "RightHand"], "skeleton": [[1, 2], [1, 3]]},
    ],
}


@pytest.mark.parametrize("labels", custom.LABELS)
@pytest.mark.parametrize("folder", custom.PICTURES)
def test_coco_json_of_ones_own(tmp_path, labels, folder):
    path = tmp_path / labels.format("shoot1")
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(LABELS))
    (tmp_path / "images").mkdir()
    picture(tmp_path / folder.format("shoot1") / "a.png")
    (record,) = custom.read(tmp_path, "shoot1")
    skeleton = record.truth.skeleton
    assert skeleton.joints == ("head", "left_hand", "right_hand")
    assert skeleton.limbs == (("head", "left_hand"), ("head", "right_hand")) and skeleton.mirror == (0, 2, 1)
    assert record.visible.tolist() == [[2, 1, 0]]
    assert record.truth.boxes.tolist() == [[10, 20, 30, 60]]  # of the joints, as the label has none
    assert record.areas.tolist() == pytest.approx([0.53 * 20 * 40])
    assert [o["id"] for o in record.others] == [10]
    assert record.read().shape == (100, 200, 3)


def test_a_skeleton_file_goes_before_the_category(tmp_path):
    picture(tmp_path / "images" / "a.png")
    (tmp_path / "train.json").write_text(json.dumps(LABELS))
    skeleton = {"name": "mine", "joints": ["top", "left_hand", "right_hand"], "sigmas": [0.1, 0.2, 0.2]}
    (tmp_path / "skeleton.yaml").write_text(yaml.safe_dump(skeleton))
    (record,) = custom.read(tmp_path, "train")
    assert record.truth.skeleton.joints[0] == "top" and record.truth.skeleton.sigmas == (0.1, 0.2, 0.2)


def test_what_a_custom_set_lacks_is_named(tmp_path):
    with pytest.raises(ValueError, match="no labels for 'train'"):
        custom.read(tmp_path, "train")
    path = tmp_path / "train.json"
    path.write_text(json.dumps({**LABELS, "categories": LABELS["categories"][:1]}))
    with pytest.raises(ValueError, match="no category with `keypoints`"):
        custom.read(tmp_path, "train")
    path.write_text(json.dumps({**LABELS, "images": []}))
    with pytest.raises(ValueError, match=r"3 people of pictures it does not list \(image_id 3\)"):
        custom.read(tmp_path, "train")
    dog = {"id": 3, "name": "dog", "keypoints": ["tail"]}
    path.write_text(json.dumps({**LABELS, "categories": [dog, {**LABELS["categories"][1], "name": "human"}]}))
    with pytest.raises(ValueError, match=r"different joints \(dog, human\)"):
        custom.read(tmp_path, "train")


def yolo_set(root, line, fields=None, name="a.png"):
    picture(root / "images" / "train" / name)
    (root / "labels" / "train").mkdir(parents=True, exist_ok=True)
    (root / "labels" / "train" / "a.txt").write_text(line)
    basic = {"path": ".", "train": "images/train", "kpt_shape": [3, 3], "names": {0: "person"}}
    (root / "data.yaml").write_text(yaml.safe_dump(basic | (fields or {})))


NAMES = {"kpt_names": {0: ["head", "left_hand", "right_hand"]}, "flip_idx": [0, 2, 1]}


def test_yolo_labels_are_shares_of_the_picture(tmp_path):
    yolo_set(tmp_path, "0 0.5 0.5 0.2 0.4 0.5 0.3 2 0.45 0.6 1 0 0 0\n0 0.1 0.1 0.1 0.1 0 0 0 0 0 0 0 0 0\n", NAMES)
    picture(tmp_path / "images" / "train" / "empty.jpg")
    full, empty = yolo.read(tmp_path, "train")
    assert (full.name, full.size) == ("images/train/a.png", (200, 100))
    assert (empty.name, len(empty.truth)) == ("images/train/empty.jpg", 0)
    assert full.truth.xy[0].tolist() == pytest.approx(np.array([[100, 30], [90, 60], [0, 0]]))
    assert full.visible.tolist() == [[2, 1, 0]]
    assert full.truth.boxes.tolist() == pytest.approx(np.array([[80, 30, 120, 70]]))
    assert full.areas.tolist() == pytest.approx([0.53 * 40 * 40])
    assert full.others[0]["bbox"] == pytest.approx([10, 5, 20, 10])
    assert full.truth.skeleton.joints == ("head", "left_hand", "right_hand")
    assert full.read().shape == (100, 200, 3)


def test_two_numbers_a_joint_and_lists_of_files(tmp_path):
    fields = {"kpt_shape": [3, 2], "train": "list.txt", "names": ["person"]}
    yolo_set(tmp_path, "0 0.5 0.5 0.2 0.4 0.5 0.3 -1 0.6 0 0", fields | NAMES)
    (tmp_path / "list.txt").write_text("./images/train/a.png\n")
    (record,) = yolo.read(tmp_path / "data.yaml", "train")
    assert record.visible.tolist() == [[2, 0, 0]]


def test_a_damaged_picture_does_not_hide_the_others(tmp_path):
    yolo_set(tmp_path, "0 0.5 0.5 0.2 0.4 0.5 0.3 2 0.45 0.6 1 0 0 0", NAMES)
    (tmp_path / "images" / "train" / "b.jpg").write_bytes(b"nothing")
    good, bad = yolo.read(tmp_path, "train")
    assert len(good.truth) == 1 and len(bad.truth) == 0
    with pytest.raises(ValueError, match="b.jpg"):
        bad.read()


def test_only_the_class_person_counts_where_there_is_one(tmp_path):
    rows = "1 0.5 0.5 0.2 0.4 0.5 0.3 2 0.45 0.6 1 0 0 0\n0 0.5 0.5 0.2 0.4 0.9 0.3 2 0.45 0.6 1 0 0 0\n"
    yolo_set(tmp_path, rows, NAMES | {"names": ["robot", "person"]})
    assert yolo.read(tmp_path, "train")[0].truth.xy[:, 0].tolist() == [pytest.approx([100, 30])]
    yolo_set(tmp_path, rows, NAMES | {"names": ["robot", "android"]})
    assert len(yolo.read(tmp_path, "train")[0].truth) == 2


def test_seventeen_joints_are_cocos(tmp_path):
    yolo_set(tmp_path, "0 0.5 0.5 0.2 0.4" + " 0.5 0.5 2" * 17, {"kpt_shape": [17, 3], "flip_idx": list(COCO17.mirror)})
    assert yolo.read(tmp_path, "train")[0].truth.skeleton is COCO17


@pytest.mark.parametrize(
    ("line", "fields", "match"),
    [
        ("0 0.5 0.5 0.2 0.4 0.5", {}, "a.txt, line 1: 6 numbers, kpt_shape asks for 14"),
        ("\n0 0.5 a", {}, "a.txt, line 2: '0 0.5 a' is not numbers"),
        ("", {"kpt_shape": [3, 4]}, "kpt_shape is"),
        ("", {"flip_idx": [1, 2, 0]}, "must swap pairs"),
        ("", {"kpt_names": ["a", "b"]}, "kpt_shape says 3 joints"),
        ("", {"train": "elsewhere"}, "not there"),
        ("", {"train": None}, "names no pictures for 'train'"),
    ],
)
def test_what_is_wrong_with_a_yolo_set_is_named(tmp_path, line, fields, match):
    yolo_set(tmp_path, line, fields)
    with pytest.raises(ValueError, match=match):
        yolo.read(tmp_path, "train")


def test_label_files_lie_below_the_last_folder_called_images(tmp_path):
    path = tmp_path / "images" / "x" / "images" / "train" / "a.b.jpg"
    assert yolo.label_file(path) == tmp_path / "images" / "x" / "labels" / "train" / "a.b.txt"
