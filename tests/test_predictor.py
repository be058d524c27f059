import subprocess
import sys

import _tiny
import cv2
import numpy as np
import pytest
from PIL import Image as PIL

import edgepose
from edgepose.codecs import normalise
from edgepose.predictor import Predictor

JOINTS = ((100, 40), (120, 100), (90, 180))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return edgepose.load(_tiny.model(tmp_path_factory.mktemp("tiny")), threads=1)


def at(poses, joints, limit=1.1):
    assert len(poses) == 1
    assert np.linalg.norm(poses.xy[0] - np.array(joints), axis=1).max() < limit, poses.xy


def test_joints_are_where_the_picture_has_them(model, tmp_path):
    image = _tiny.picture(JOINTS)
    path = _tiny.write(tmp_path / "a.png", image)
    for source in (image, path, str(path), PIL.fromarray(image), np.dstack([image, np.full_like(image[..., 0], 255)])):
        poses = model(source)
        at(poses, JOINTS)
        assert poses.person_scores[0] > 0.8
    at(model(image.astype(np.uint16) * 256), JOINTS)


@pytest.mark.parametrize("flip", [False, True])
def test_flip_is_said_or_left_to_the_card(tmp_path, flip):
    seen = []
    folder = _tiny.model(tmp_path)
    told = edgepose.load(folder, flip=flip, threads=1)
    engine = told.engine
    told = Predictor(told.card, told.codec, lambda batch: (seen.append(len(batch)), engine(batch))[1])
    at(told(_tiny.picture(JOINTS)), JOINTS)
    assert seen == [2 if flip else 1]
    assert told.card.codec.flip is True  # the card still says what it said
    assert edgepose.load(folder).codec == told.card.codec


@pytest.mark.parametrize("size", [(640, 240), (240, 640), (1280, 960), (64, 48)])
def test_any_size_and_aspect(model, size):
    joints = [(x / 320 * size[0], y / 240 * size[1]) for x, y in JOINTS]
    sigma = 5 * min(size) / 240
    at(model(_tiny.picture(joints, size, sigma)), joints, max(1.1, min(size) / 240))


def test_run_gives_raw_maps_finest_last(model):
    image = np.zeros((64, 96, 3), np.uint8)
    image[..., 0] = 255
    coarse, fine = model.run(normalise(image))
    assert (coarse.shape, fine.shape) == ((1, 6, 16, 24), (1, 3, 32, 48))
    assert fine[0, 0].min() > 0.999
    assert np.abs(fine[0, 1:]).max() < 1e-3


@pytest.mark.parametrize(
    ("batch", "says"),
    [
        (np.zeros((1, 3, 64, 64)), "float32 array, not float64"),
        (np.zeros((1, 3, 64, 64), np.uint8), "float32 array, not uint8"),
        ([[1.0]], "float32 array, not list"),
        (np.zeros((3, 64, 64), np.float32), r"shape \(n, 3, height, width\), not \(3, 64, 64\)"),
        (np.zeros((1, 64, 64, 3), np.float32), r"not \(1, 64, 64, 3\)"),
        (np.zeros((0, 3, 64, 64), np.float32), r"not \(0, 3, 64, 64\)"),
        (np.zeros((1, 3, 64, 250), np.float32), "multiples of 16"),
    ],
)
def test_batches_that_are_none(model, batch, says):
    with pytest.raises(ValueError, match=says):
        model.run(batch)


def test_a_double_is_a_lambda(model):
    maps = [np.zeros((2, 6, 64, 64), np.float32), np.zeros((2, 3, 128, 128), np.float32)]
    assert len(Predictor(model.card, model.codec, lambda batch: maps)(np.zeros((64, 64, 3), np.uint8))) == 0


def test_a_picture_of_one_colour_has_no_people(model):
    assert len(model(np.zeros((100, 100, 3), np.uint8))) == 0


def test_import_is_quick_and_light():
    code = """
import sys, edgepose
heavy = {"cv2", "onnxruntime", "torch", "scipy", "PIL", "rich", "tyro", "onnx", "yaml"} & set(sys.modules)
assert not heavy, heavy
assert {"load", "save", "Predictor"} <= set(edgepose.__all__)
from edgepose import Predictor, load, save
assert callable(load) and callable(save)
try:
    edgepose.lod
except AttributeError as error:
    assert "lod" in str(error)
else:
    raise AssertionError
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_opencv_reads_bgr_and_edgepose_takes_rgb(model):
    bgr = cv2.cvtColor(_tiny.picture(JOINTS), cv2.COLOR_RGB2BGR)
    at(model(bgr), JOINTS[::-1])  # head and pelvis change places: the colours are not guessed
