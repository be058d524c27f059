"""Reading COCO-style labels, and training samples made of them."""

import json
import tarfile
from dataclasses import replace

import cv2
import numpy as np
import pytest

from edgepose.codecs.bottomup import BottomUp
from edgepose.data import coco
from edgepose.data._augment import Augment, distort, mosaic, photograph
from edgepose.data._loader import BottomUpSamples

STILL = Augment(scale=(1, 1), rotation=0, shift=0, flip=0, colour=0, grey=0, blur=0, occlusion=0, mosaic=0)
DOTS = {"nose": (60, 40), "left_wrist": (90, 70), "right_wrist": (30, 70), "left_ankle": (75, 100)}


@pytest.fixture
def root(tmp_path):
    """Three photographs of 120 x 120; joints of person 1 are dots: left ones green, right ones red, nose blue."""
    folder = tmp_path / "coco_small"
    folder.mkdir()
    image = np.full((120, 120, 3), 40, np.uint8)
    keypoints = np.zeros((17, 3))
    for joint, (x, y) in DOTS.items():
        cv2.circle(image, (x, y), 4, {"l": (0, 255, 0), "r": (0, 0, 255)}.get(joint[0], (255, 0, 0)), -1)
        keypoints[coco.SKELETON.index[joint]] = x, y, 2
    for i in range(3):
        cv2.imwrite(str(folder / f"{i}.png"), image)
    person = {"category_id": 1, "bbox": [20, 30, 80, 80], "area": 3000.0}
    labels = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 120, "height": 120} for i in range(3)],
        "annotations": [
            {"id": 1, "image_id": 0, "num_keypoints": 4, "keypoints": keypoints.ravel().tolist(), **person},
            {"id": 2, "image_id": 0, "num_keypoints": 4, "keypoints": [5] * 51, "iscrowd": 1, **person},
            {"id": 3, "image_id": 1, "num_keypoints": 4, "keypoints": keypoints.ravel().tolist(), **person},
            {"id": 4, "image_id": 1, "num_keypoints": 0, "keypoints": [0] * 51, **person},
        ],
    }
    (tmp_path / "coco_small.json").write_text(json.dumps(labels))
    return tmp_path


def check_dots(image, poses, flipped=False):
    """Every joint inside lies on a dot of its side's colour (of the other side's in a mirror); returns how many did."""
    seen = 0
    for pose in poses:
        for joint, (x, y), score in zip(pose.skeleton.joints, pose.xy, pose.scores, strict=True):
            if score > 0 and 3 <= x < image.shape[1] - 3 and 3 <= y < image.shape[0] - 3:
                want = {"left": int(not flipped), "right": int(flipped), "middle": 2}[pose.skeleton.side(joint)]
                pixel = image[round(float(y)), round(float(x))].astype(int)
                assert pixel.argmax() == want and pixel.max() > 90, (joint, x, y, pixel)
                seen += 1
    return seen


def test_crowds_and_people_without_joints_are_left_out(root):
    records = coco.read(root, "small")
    assert [len(r.truth) for r in records] == [1, 1, 0]
    assert records[0].areas.tolist() == [3000.0]
    assert records[0].truth.boxes.tolist() == [[20, 30, 100, 110]]
    assert check_dots(records[0].read(), records[0].truth) == 4


def test_pictures_are_read_from_tar_files_too(root):
    with tarfile.open(root / "coco_small-0.tar", "w") as tar:
        for i in range(3):
            tar.add(root / "coco_small" / f"{i}.png", f"{i}.png")
    want = coco.read(root, "small")[0].read()
    (root / "coco_small").rename(root / "elsewhere")
    assert np.array_equal(coco.read(root, "small")[0].read(), want)


def test_what_is_missing_is_named(root):
    with pytest.raises(ValueError, match="person_keypoints_val2017.json"):
        coco.read(root, "val")
    with pytest.raises(ValueError, match="'smal'.*small"):
        coco.read(root, "smal")
    (root / "coco_small" / "0.png").unlink()
    with pytest.raises(ValueError, match="'0.png' is missing"):
        coco.read(root, "small")[0].read()
    (root / "coco_small").rename(root / "elsewhere")
    with pytest.raises(ValueError, match="no pictures"):
        coco.read(root, "small")


def test_an_unchanged_view_puts_the_joints_where_they_were(root):
    sample = photograph(coco.read(root, "small")[0], 240, np.random.default_rng(0), STILL)
    nose = sample.truth.xy[0, 0]
    assert nose.tolist() == pytest.approx([120, 80], abs=1e-4)


@pytest.mark.parametrize("flip", [0, 1])
@pytest.mark.parametrize("make", ["photograph", "mosaic"])
def test_joints_stay_on_their_dots_through_warp_and_flip(root, make, flip):
    records = coco.read(root, "small")[:2]
    how = replace(Augment(), colour=0, grey=0, blur=0, occlusion=0, flip=flip)
    seen = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sample = photograph(records[0], 192, rng, how) if make == "photograph" else mosaic(records, 192, rng, how)
        sample = distort(sample, rng, how)
        inside = (sample.truth.xy >= 0).all(-1) & (sample.truth.xy < 192).all(-1)
        assert not sample.truth.scores[~inside].any()
        if make == "photograph":
            seen += check_dots(sample.image, sample.truth, bool(flip))
        else:  # a neighbouring cell may cover a dot's middle, so count misses instead
            for i in range(len(sample.truth)):
                with_dot = sample.truth[i]
                xy, ok = with_dot.xy[0], with_dot.scores[0] > 0
                pixels = sample.image[xy[ok][:, 1].astype(int), xy[ok][:, 0].astype(int)]
                assert (pixels.max(1) > 60).all()
                seen += len(pixels)
    assert seen > 60


def test_samples_depend_on_seed_and_number_alone(root):
    records = coco.read(root, "small")
    make = lambda seed: BottomUpSamples(records, records[:2], BottomUp(), Augment(), ((0, 128), (6, 192)), seed)  # noqa: E731
    a, b = make(0), make(0)
    for number in (5, 2, 7):
        first, second = a[number], b[number]
        assert all(np.array_equal(first[k], second[k]) for k in first)
    assert not np.array_equal(make(1)[5]["image"], a[5]["image"])
    assert a[5]["image"].shape == (3, 128, 128) and a[6]["image"].shape == (3, 192, 192)
    assert a[6]["heatmaps_1"].shape == a[6]["mask_1"].shape == (17, 96, 96)


def test_only_missing_joints_of_sparse_people_are_masked(root):
    records = [replace(r, sparse=True) for r in coco.read(root, "small")]
    for sparse in (True, False):
        alone = replace(records[0], sparse=sparse, others=())
        samples = BottomUpSamples([alone], [], BottomUp(), STILL, ((0, 128),))
        mask = samples[0]["mask_1"]
        labelled = [coco.SKELETON.index[j] for j in DOTS]
        missing = [j for j in range(17) if j not in labelled]
        assert mask[labelled].all()
        assert mask[missing][:, 35, 32].any() != sparse
        assert mask[:, 1, 1].all()
