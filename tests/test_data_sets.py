"""The published data sets: what is read, what is left to `others`, and each set's own conventions."""

import json
import struct
import sys

import cv2
import numpy as np
import pytest

from edgepose import folder
from edgepose.data import coco, crowdpose, lsp, mpii
from edgepose.data._size import picture_size
from edgepose.evaluate import coco_results
from edgepose.skeleton import LSP14

scipy_io = pytest.importorskip("scipy.io")


def picture(path, size=(120, 90)):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((size[1], size[0], 3), 90, np.uint8))


def coco_file(path, joints, people, images=1, **more):
    """Labels of pictures 0.jpg, 1.jpg, ... in COCO's format; `people` are (picture, keypoints, fields)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, (image, keypoints, fields) in enumerate(people, 1):
        count = sum(v > 0 for v in keypoints[2::3])
        row = {"id": number, "image_id": image, "category_id": 1, "iscrowd": 0, "num_keypoints": count}
        rows.append(row | {"keypoints": keypoints, "bbox": [10, 20, 40, 50], "area": 700.5} | fields)
    pictures = [{"id": i, "file_name": f"{i}.jpg", "width": 120, "height": 90, **more} for i in range(images)]
    path.write_text(json.dumps({"images": pictures, "annotations": rows}))
    assert all(len(p[1]) == 3 * joints for p in people)


@pytest.fixture
def coco_root(tmp_path):
    whole = [v for j in range(17) for v in (20 + j, 30 + j, 1 + j % 2)]
    none = [0] * 51
    region = {"counts": [10, 5, 10785], "size": [90, 120]}
    people = [(0, whole, {"id": 77}), (0, none, {"segmentation": [[1, 1, 9, 1, 9, 9]], "huge": "left out"})]
    coco_file(
        tmp_path / "annotations" / "person_keypoints_val2017.json",
        17,
        [*people, (1, none, {"iscrowd": 1, "segmentation": region}), (1, whole[:3] + none[3:], {})],
        images=3,
    )
    for i in range(3):
        picture(tmp_path / "val2017" / f"{i}.jpg")
    return tmp_path


def mpii_files(root, split, image="a.jpg"):
    (root / "annot").mkdir(exist_ok=True)
    joints = [[10.0 + j, 20.0 + 2 * j] for j in range(16)]
    person = {"image": image, "joints": joints, "joints_vis": [1] * 16, "center": [31.0, 41.0], "scale": 0.4}
    other = {**person, "image": "b.jpg"}
    third = {**person, "center": [61.0, 41.0], "joints_vis": [0] * 8 + [1] * 8}
    third["joints"] = [[-1.0, -1.0]] * 8 + joints[8:]
    (root / "annot" / f"{split}.json").write_text(json.dumps([person, other, third]))
    for name in ("a.jpg", "b.jpg"):
        picture(root / "images" / name)


def test_coco_keeps_crowds_and_unlabelled_people_aside(coco_root):
    first, second, empty = coco.read(coco_root, "val")
    assert len(first.truth) == len(second.truth) == 1 and len(empty.truth) == 0
    assert first.truth.ids.tolist() == [77]
    assert first.visible[0].tolist() == [1 + j % 2 for j in range(17)]
    assert second.visible[0].tolist() == [1] + [0] * 16
    (person,) = first.others
    box = {"id": 2, "bbox": [10, 20, 40, 50], "area": 700.5, "iscrowd": 0}
    assert person == {**box, "segmentation": [[1, 1, 9, 1, 9, 9]]}
    assert [o["iscrowd"] for o in second.others] == [1]
    assert first.read().shape == (90, 120, 3)


def test_a_list_of_pictures_without_labels_is_a_split_too(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "test2017").mkdir()
    images = [{"id": 5, "file_name": "5.jpg", "width": 20, "height": 10}]
    (tmp_path / coco.SPLITS["test-dev"][0]).write_text(json.dumps({"images": images}))
    (record,) = coco.read(tmp_path, "test-dev")
    assert (record.id, record.size, len(record.truth), record.others) == (5, (20, 10), 0, ())


@pytest.mark.parametrize(
    "text",
    [
        "[1, 2]",
        "{",
        '{"images": [{}]}',
        '{"images": [], "annotations": [{"id": 1}]}',
        '{"images": [{"id": 1, "file_name": "1.jpg"}]}',
    ],
)
def test_labels_that_are_something_else_are_named(tmp_path, text):
    (tmp_path / "coco_small").mkdir()
    (tmp_path / "coco_small.json").write_text(text)
    with pytest.raises(ValueError, match=r"coco_small.json|1\.jpg"):
        coco.read(tmp_path, "small")


def test_a_person_with_the_wrong_number_of_joints_is_named(tmp_path):
    coco_file(tmp_path / "json" / "crowdpose_val.json", 3, [(0, [1, 2, 2] * 3, {})])
    (tmp_path / "images").mkdir()
    with pytest.raises(ValueError, match=r"0\.jpg has 9 numbers.*crowdpose14 needs 42"):
        crowdpose.read(tmp_path, "val")


def test_crowdpose_measures_boxes_and_masks_nothing(tmp_path):
    joints = [v for j in range(14) for v in (20 + j, 30 + j, 2)]
    for split in ("train", "val"):
        people = [(0, joints, {"area": 1.0}), (0, [0] * 42, {"segmentation": None})]
        coco_file(tmp_path / "json" / f"crowdpose_{split}.json", 14, people, crowdIndex=0.37)
    (tmp_path / "images").mkdir()
    (record,) = crowdpose.read(tmp_path, "val")
    assert record.crowd == 0.37
    assert record.areas.tolist() == pytest.approx([0.53 * 40 * 50])
    assert record.others[0]["segmentation"] == []
    assert len(crowdpose.read(tmp_path, "trainval")) == 2  # without a file of its own: train and val
    with pytest.raises(ValueError, match="crowdpose_test.json"):
        crowdpose.read(tmp_path, "test")


def test_mpii_counts_from_one_and_groups_people_by_picture(tmp_path):
    mpii_files(tmp_path, "train")
    a, b = mpii.read(tmp_path, "train")
    assert (a.name, b.name, len(a.truth), len(b.truth), a.size) == ("a.jpg", "b.jpg", 2, 1, (120, 90))
    assert a.truth.xy[0, 3].tolist() == [12.0, 25.0]  # 13, 26 in the file
    assert a.truth.scores[1].tolist() == [0.0] * 8 + [1.0] * 8
    assert a.truth.boxes[0].tolist() == pytest.approx([30 - 40, 46 - 40, 30 + 40, 46 + 40])
    assert a.areas.tolist() == pytest.approx([0.28 * 80**2] * 2)
    assert a.heads is None and a.visible is None
    with pytest.raises(ValueError, match="head sizes"):
        mpii.score([a, b], [])


def test_the_padded_box_of_mpii_is_the_crop_of_hrnet(tmp_path):
    """HRNet: centre (c + 15 scale) - 1, side 1.25 x 200 scale."""
    from edgepose.codecs.topdown import TopDown

    mpii_files(tmp_path, "train")
    box = mpii.read(tmp_path, "train")[0].truth.boxes[0]
    warp = TopDown(input_size=(256, 256)).frame(box)
    centre, side = np.array([31.0, 41.0 + 15 * 0.4]) - 1, 1.25 * 200 * 0.4
    assert warp(centre).tolist() == pytest.approx([128, 128], abs=1e-4)
    assert warp.zoom == pytest.approx(256 / side)


def test_heads_and_missing_joints_come_from_the_mat_file(tmp_path):
    mpii_files(tmp_path, "valid")
    assert mpii.read(tmp_path, "val")[0].heads is None
    corners = np.zeros((2, 2, 3))
    corners[1, :, 0], corners[1, :, 1], corners[1, :, 2] = (30, 40), (3, 4), (6, 8)
    missing = np.zeros((16, 3), np.uint8)
    missing[5, 2] = missing[9, 0] = 1
    scipy_io.savemat(tmp_path / "annot" / "gt_valid.mat", {"headboxes_src": corners, "jnt_missing": missing})
    a, b = mpii.read(tmp_path, "val")
    assert a.heads.tolist() == pytest.approx([0.6 * 50, 0.6 * 10])
    assert b.heads.tolist() == pytest.approx([0.6 * 5])
    assert np.flatnonzero(a.truth.scores[0] == 0).tolist() == [9]
    assert np.flatnonzero(a.truth.scores[1] == 0).tolist() == [5]
    short = {"headboxes_src": corners[..., :2], "jnt_missing": missing[:, :2]}
    scipy_io.savemat(tmp_path / "annot" / "gt_valid.mat", short)
    with pytest.raises(ValueError, match="about 2 people, valid.json about 3"):
        mpii.read(tmp_path, "val")


def test_the_test_people_of_mpii_have_no_labels(tmp_path):
    mpii_files(tmp_path, "test")
    a, _ = mpii.read(tmp_path, "test")
    assert len(a.truth) == 0 and len(a.others) == 2
    assert a.others[0]["bbox"] == pytest.approx([-10, 6, 80, 80])


def test_scipy_is_asked_for_by_name(tmp_path, monkeypatch):
    mpii_files(tmp_path, "valid")
    (tmp_path / "annot" / "gt_valid.mat").touch()
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(ValueError, match=r"needs scipy: pip install \"edgepose\[train\]\""):
        mpii.read(tmp_path, "val")
    with pytest.raises(ValueError, match="needs scipy"):
        lsp.read(tmp_path, "lsp14-train")


def test_original_lsp_has_all_joints_and_says_which_are_hidden(tmp_path):
    table = np.zeros((3, 14, 2000))
    table[0], table[1] = np.arange(14)[:, None] * 2 + 11, np.arange(14)[:, None] * 3 + 21
    table[2, 4, 1999] = 1
    scipy_io.savemat(tmp_path / "joints.mat", {"joints": table})
    for i in range(1, 2001):
        (tmp_path / "images").mkdir(exist_ok=True)
        if i == 1:
            picture(tmp_path / "images" / "im0001.jpg")
        else:
            (tmp_path / "images" / f"im{i:04}.jpg").symlink_to(tmp_path / "images" / "im0001.jpg")
    records = lsp.read(tmp_path, "lsp14-test")
    assert (len(records), records[0].name, records[-1].id) == (1000, "im1001.jpg", 2000)
    assert records[-1].truth.skeleton == LSP14
    assert records[-1].truth.xy[0, 4].tolist() == [18, 32]
    assert records[-1].visible[0].tolist() == [2] * 4 + [1] + [2] * 9
    assert records[-1].truth.scores.all()
    assert records[-1].areas.tolist() == pytest.approx([0.83 * 26 * 39])


def exif(orientation):
    """An EXIF segment that holds the orientation alone."""
    tiff = b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 0x0112, 3, 1, orientation, 0, 0)
    return b"\xff\xe1" + struct.pack(">H", 8 + len(tiff)) + b"Exif\0\0" + tiff


@pytest.mark.parametrize("orientation", [None, 1, 3, 6, 8])
@pytest.mark.parametrize("upright", [True, False])
def test_sizes_are_those_of_the_decoded_picture(tmp_path, orientation, upright):
    picture(tmp_path / "a.jpg", (40, 25))
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[:2] + (exif(orientation) if orientation else b"") + data[2:])
    flags = cv2.IMREAD_COLOR if upright else cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION
    decoded = cv2.imread(str(tmp_path / "a.jpg"), flags)
    assert picture_size(tmp_path / "a.jpg", upright) == decoded.shape[1::-1]
    assert (decoded.shape[1::-1] == (25, 40)) == (upright and orientation in (6, 8))


def test_sizes_of_other_formats_and_of_nothing(tmp_path):
    for suffix in ("png", "bmp"):
        picture(tmp_path / f"a.{suffix}", (33, 21))
        assert picture_size(tmp_path / f"a.{suffix}") == (33, 21)
    (tmp_path / "b.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    for name in ("b.jpg", "gone.jpg"):
        with pytest.raises(ValueError, match=name):
            picture_size(tmp_path / name)


def test_every_set_has_the_four_names():
    for name in folder.names("edgepose.data"):
        module = folder.entry("edgepose.data", name)
        assert module.SPLITS and callable(module.read) and callable(module.score)
        with pytest.raises(ValueError, match=r"nothing-like-it|data.yaml"):
            module.read("/nowhere", "nothing-like-it")


def test_truth_scores_one_by_each_sets_own_figure(coco_root, tmp_path):
    pytest.importorskip("edgepose.data._oks")
    pytest.importorskip("faster_coco_eval")
    records = coco.read(coco_root, "val")
    results = [row for r in records for row in coco_results(r.truth, r.id)]
    assert coco.score(records, results)["AP"] == pytest.approx(1)
    mpii_files(tmp_path, "valid")
    corners = np.zeros((2, 2, 3))
    corners[1] = 30
    scipy_io.savemat(
        tmp_path / "annot" / "gt_valid.mat", {"headboxes_src": corners, "jnt_missing": np.zeros((16, 3), np.uint8)}
    )
    records = mpii.read(tmp_path, "val")
    results = [row | {"person": i} for r in records for i, row in enumerate(coco_results(r.truth, r.id))]
    assert mpii.score(records, results)["Mean"] == pytest.approx(1)
