"""Regions without labels: COCO's outlines decoded as the official tool does, and masked in training."""

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edgepose.codecs.bottomup import BottomUp
from edgepose.data import Record, coco
from edgepose.data._augment import Augment, distort, mosaic, photograph
from edgepose.data._loader import BottomUpSamples
from edgepose.data._mask import ignore_mask, region, uncompress
from edgepose.poses import Poses
from edgepose.skeleton import COCO17

STILL = Augment(scale=(1, 1), rotation=0, shift=0, flip=0, colour=0, grey=0, blur=0, occlusion=0, mosaic=0)


def record(others=(), size=(160, 160), person=None):
    """A picture that is white where a box of `others` lies, with one person."""
    image = np.full((size[1], size[0], 3), 50, np.uint8)
    for other in others:
        x, y, w, h = other.get("bbox", (0, 0, 0, 0))
        image[y : y + h, x : x + w] = 255
    xy = np.full((1, 17, 2), 40.0) + np.arange(17)[None, :, None] * 4 if person is None else person
    truth = Poses(xy, np.ones((1, 17)), COCO17)
    return Record(1, "1.jpg", size, lambda: image.copy(), truth, np.array([900.0], np.float32), others=tuple(others))


BOX = {"bbox": [30, 100, 70, 40], "area": 2800.0, "iscrowd": 0}


@settings(max_examples=60, deadline=None)
@given(arrays.arrays(bool, st.tuples(st.integers(1, 40), st.integers(1, 70)), elements=st.booleans()))
def test_run_lengths_give_back_the_mask(mask):
    official = pytest.importorskip("pycocotools.mask")
    h, w = mask.shape
    packed = official.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert np.array_equal(region(packed, (w, h)), mask)
    text = {**packed, "counts": packed["counts"].decode()}
    assert np.array_equal(region(text, (w, h)), mask)
    counts = uncompress(packed["counts"])
    assert np.array_equal(region({"counts": counts, "size": [h, w]}, (w, h)), mask)
    assert official.frPyObjects({"counts": counts, "size": [h, w]}, h, w)["counts"] == packed["counts"]


def test_long_runs_are_decoded():
    official = pytest.importorskip("pycocotools.mask")
    mask = np.zeros((900, 1300), np.uint8, order="F")
    mask[3:700, 5:1290] = 1
    mask[::7, 100:900] = 0
    assert np.array_equal(region(official.encode(mask), (1300, 900)), mask.astype(bool))


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0, 90), st.floats(0, 60)), min_size=3, max_size=9))
def test_polygons_differ_from_the_official_ones_by_their_outline_at_most(corners):
    official = pytest.importorskip("pycocotools.mask")
    flat = [v for corner in corners for v in corner]
    theirs = official.decode(official.merge(official.frPyObjects([flat], 60, 90))).astype(bool)
    ours = region([flat], (90, 60))
    pixels = np.argwhere(ours != theirs)[:, ::-1] + 0.5
    ends = np.array(corners)
    far = np.full(len(pixels), np.inf)
    for a, b in zip(ends, np.roll(ends, -1, 0), strict=True):
        along = np.clip((pixels - a) @ (b - a) / max(float((b - a) @ (b - a)), 1e-9), 0, 1)
        far = np.minimum(far, np.linalg.norm(pixels - a - along[:, None] * (b - a), axis=1))
    assert (far < 1.3).all()


def test_outlines_of_another_picture_are_refused():
    with pytest.raises(ValueError, match="cover 100 pixels, the picture is 20 x 10"):
        region({"counts": [40, 60], "size": [10, 10]}, (20, 10))


def test_masks_join_all_others_and_fall_back_to_the_box():
    mask = ignore_mask(record([BOX, {"segmentation": {"counts": [160 * 150, 160 * 10], "size": [160, 160]}}]))
    assert mask[110:135, 35:95].all() and mask[:, 151:].all()
    assert not mask[:99, :149].any()
    assert not ignore_mask(record([{**BOX, "segmentation": []}])).any()


@pytest.mark.parametrize("make", ["photograph", "mosaic"])
def test_the_mask_goes_where_the_pixels_go(make):
    how = replace(Augment(), colour=0, grey=0, blur=0, occlusion=0)
    seen = 0
    for seed in range(25):
        rng = np.random.default_rng(seed)
        given_ = record([BOX])
        sample = photograph(given_, 128, rng, how) if make == "photograph" else mosaic([given_], 128, rng, how)
        sample = distort(sample, rng, how)
        white = sample.image[..., 0] > 150
        ignored = np.zeros((128, 128), bool) if sample.ignored is None else sample.ignored
        differ = (white != ignored).astype(np.uint8)
        assert not cv2.erode(differ, np.ones((4, 4), np.uint8), borderValue=0).any()  # the outline is blurred
        seen += ignored.sum()
    assert seen > 2000


def test_training_masks_those_pixels_at_every_scale():
    loaded = BottomUpSamples([record([BOX])], [], BottomUp(), STILL, ((0, 160),))[0]
    for i, stride in enumerate((4, 2)):
        mask = loaded[f"mask_{i}"]
        want = np.ones((160 // stride, 160 // stride), np.uint8)
        want[100 // stride : 140 // stride, 30 // stride : 100 // stride] = 0
        assert np.abs(mask - want[None].astype(int)).sum() <= 17 * 2 * (110 // stride) + 17 * 4
        assert not mask[:, 104 // stride : 136 // stride, 36 // stride : 96 // stride].any()
        assert mask[:, : 96 // stride].all()


def test_without_others_samples_are_what_they_were(tmp_path):
    """The same numbers as before masks existed: nothing more is drawn from the generator, nothing else changes."""
    aside = record([{**BOX, "segmentation": []}])
    plain = replace(aside, others=())
    for number in range(6):
        pair = [BottomUpSamples([r], [r], BottomUp(), Augment(), ((0, 96),), 3)[number] for r in (plain, aside)]
        assert pair[0].keys() == pair[1].keys()
        assert all(np.array_equal(pair[0][k], pair[1][k]) for k in pair[0])
    assert BottomUpSamples([plain], [plain], BottomUp(), Augment(), ((0, 96),), 3).picture(0).ignored is None


def test_a_crowd_in_a_coco_file_reaches_the_mask(tmp_path):
    (tmp_path / "coco_small").mkdir()
    person = {"id": 1, "image_id": 1, "category_id": 1, "keypoints": [9, 9, 2] * 17, "num_keypoints": 17}
    counts = [10 * 30, 20 * 30, 10 * 30]  # columns 10 to 29 of 40 x 30
    crowd = {"id": 2, "image_id": 1, "category_id": 1, "iscrowd": 1, "bbox": [10, 0, 20, 30], "area": 600.0}
    crowd |= {"num_keypoints": 0, "keypoints": [0] * 51, "segmentation": {"counts": counts, "size": [30, 40]}}
    images = [{"id": 1, "file_name": "1.png", "width": 40, "height": 30}]
    labels = {"images": images, "annotations": [{**person, "bbox": [9, 9, 1, 1], "area": 1.0}, crowd]}
    (tmp_path / "coco_small.json").write_text(json.dumps(labels))
    mask = ignore_mask(coco.read(tmp_path, "small")[0])
    assert mask.any(0).nonzero()[0].tolist() == list(range(10, 30)) and mask[:, 10:30].all()
