"""Many pictures at once: the same poses, in order, in bounded memory, on the threads that were asked for."""

import os
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import _tiny
import cv2
import numpy as np
import pytest

import edgepose
from edgepose import pipeline
from edgepose.card import Card
from edgepose.codecs.topdown import TopDown
from edgepose.predictor import Predictor, together
from edgepose.skeleton import COCO17

JOINTS = ((100, 40), (120, 100), (90, 180))


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return edgepose.load(_tiny.model(tmp_path_factory.mktemp("tiny")), threads=2)


def same(a, b):
    assert len(a) == len(b)
    for name in ("xy", "scores", "person_scores", "boxes"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))


@pytest.mark.parametrize("name", ["efficientlite-0-person", "litepose-xs"])
def test_many_finds_exactly_what_one_by_one_finds(name, photos):
    one = edgepose.load(name, threads=1)
    paths = sorted(photos.glob("*.jpg"))
    expected = [one(path) for path in paths]
    assert sum(map(len, expected)) >= 3
    for batch, workers in ((1, 2), (3, 2), (5, 1)):
        answers = list(one.many(paths, batch, workers))
        assert [answer.source for answer in answers] == paths
        for answer, poses in zip(answers, expected, strict=True):
            same(answer.poses, poses)


def test_people_and_pictures_of_one_size_go_through_the_network_together(model):
    seen = []
    codec = TopDown(COCO17, (96, 128), flip=False)

    def run(batch):
        seen.append(batch.shape)
        maps = np.zeros((len(batch), 17, 32, 24), np.float32)
        maps[:, :, 16, 12] = batch.reshape(len(batch), -1).mean(1)[:, None] + 3  # every crop has an answer of its own
        return [maps]

    detect = lambda image: (np.float32([[0, 0, 40, 60], [50, 9, 90, 70]])[: image[0, 0, 0]], np.ones(image[0, 0, 0]))  # noqa: E731
    predictor = Predictor(Card("efficientlite-0-person", {}, codec), codec, run, detect)
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (100, 100, 3), np.uint8) for _ in range(4)]
    for picture, people in zip(pictures, (1, 0, 2, 2), strict=True):
        picture[0, 0, 0] = people
    expected = [predictor(picture) for picture in pictures]
    assert [len(poses) for poses in expected] == [1, 0, 2, 2]
    seen.clear()
    found = predictor.several(pictures)
    assert [shape[0] for shape in seen] == [5, 5], "one glance and one look for the people of all pictures"
    for a, b in zip(found, expected, strict=True):
        same(a, b)
    seen.clear()
    sizes = ((320, 240), (200, 300), (320, 240))
    images = [_tiny.picture(JOINTS, size) for size in sizes]
    whole = Predictor(model.card, model.codec, lambda batch: (seen.append(batch.shape), model.engine(batch))[1])
    for poses, image in zip(whole.several(images), images, strict=True):
        same(poses, model(image))
    assert [shape[0] for shape in seen] == [4, 2], "pictures of one size with their mirror images, then the other"


def test_what_goes_together_is_limited():
    batch = lambda n, h: np.zeros((n, 3, h, 64), np.float32)  # noqa: E731
    batches = [batch(1, 64), batch(1, 32), batch(2, 64), batch(1, 64), batch(9, 64), batch(1, 32)]
    assert together(batches, 3 * 64 * 64) == [[0, 2], [1, 5], [3], [4]]
    assert together([], 1) == []


def slow_to_begin(predictor, delays):
    """A predictor whose threads share one engine, which takes `delays` to answer."""
    engine = predictor.engine

    def run(batch):
        time.sleep(delays.pop() if delays else 0)
        return engine(batch)

    return Predictor(predictor.card, predictor.codec, run)


def test_answers_keep_the_order_whoever_is_ready_first(model):
    images = [_tiny.picture(np.array(JOINTS) + (3 * i, 0)) for i in range(12)]
    rng = np.random.default_rng(0)
    other = slow_to_begin(model, list(rng.uniform(0, 0.02, 12)))
    delays = list(rng.uniform(0, 0.03, 12))

    def after(source, picture, poses):
        time.sleep(delays.pop())
        return threading.get_ident(), float(poses.xy[0, 0, 0])

    answers = list(pipeline.stream(other, images, after, batch=2, workers=3))
    assert [answer.source is image for answer, image in zip(answers, images, strict=True)] == [True] * 12
    x = [answer.made[1] for answer in answers]
    assert np.allclose(np.diff(x), 3, atol=0.6)
    assert len({answer.made[0] for answer in answers}) > 1
    assert threading.get_ident() not in {answer.made[0] for answer in answers}


def test_engines_that_cannot_be_opened_again_are_never_in_two_calls_at_once(model):
    inside, most = [], []

    def run(batch):
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.002)
        inside.pop()
        return model.engine(batch)

    alone = Predictor(model.card, model.codec, run)
    assert all(len(answer.poses) == 1 for answer in alone.many([_tiny.picture(JOINTS)] * 8, batch=1, workers=4))
    assert max(most) == 1 and len(most) == 8
    assert alone.spent["network"] > 8 * 0.002, "what the workers spent is counted"


@pytest.mark.parametrize("batch", [1, 4])
def test_a_bad_picture_is_an_answer_and_the_rest_goes_on(model, tmp_path, batch):
    good = _tiny.write(tmp_path / "a.png", _tiny.picture(JOINTS))
    (tmp_path / "b.jpg").write_bytes(b"no")
    engine = model.engine

    def run(pictures):
        if pictures.shape[2:] == (256, 512) and len(pictures) > 0:
            raise MemoryError
        return engine(pictures)

    wide = _tiny.write(tmp_path / "wide.png", _tiny.picture(JOINTS, (480, 240)))
    odd = Predictor(model.card, model.codec, run)
    answers = list(odd.many([good, tmp_path / "b.jpg", wide, good, tmp_path / "gone.png", good], batch))
    assert [answer.poses is None for answer in answers] == [False, True, True, False, True, False]
    assert [answer.error is None for answer in answers] == [True, False, False, True, False, True]
    assert "b.jpg" in answers[1].error
    assert answers[2].error == f"{wide}: not enough memory"
    assert "no such file" in answers[4].error.lower()
    assert all(len(answer.poses) == 1 for answer in answers if answer.poses is not None)


def test_what_comes_after_may_fail_for_a_picture_or_for_all(model):
    def after(source, picture, poses):
        raise source

    image = _tiny.picture(JOINTS)
    fails = [ValueError("too large"), OSError("disk full")]
    odd = Predictor(model.card, model.codec, model.engine)
    odd.read = lambda source: image  # type: ignore[method-assign]
    answers = pipeline.stream(odd, fails, after, 1, 2)
    assert next(answers).error == "too large"
    with pytest.raises(OSError, match="disk full"):
        next(answers)


def test_sources_are_taken_as_they_are_needed_and_stopping_stops(model):
    taken = []

    def sources():
        for i in range(1000):
            taken.append(i)
            yield _tiny.picture(JOINTS)

    before, threads = threading.active_count(), cv2.getNumThreads()
    answers = model.many(sources(), batch=2, workers=2)
    for i in range(20):
        next(answers)
        assert len(taken) <= i + 2 + 2 * pipeline.AHEAD * 2
    assert cv2.getNumThreads() == 1, "OpenCV leaves the cores to the workers"
    answers.close()
    assert threading.active_count() == before
    assert cv2.getNumThreads() == threads
    assert len(taken) < 40


def test_one_picture_has_the_engine_with_all_threads(model):
    before = set(threading.enumerate())
    (answer,) = model.many([_tiny.picture(JOINTS)])
    assert len(answer.poses) == 1 and set(threading.enumerate()) <= before
    assert list(model.many([])) == []


@pytest.mark.parametrize("wrong", [{"batch": 0}, {"workers": -1}])
def test_numbers_below_one(model, wrong):
    with pytest.raises(ValueError, match="must be at least 1, got"):
        next(model.many([1, 2], **wrong))


def test_codecs_that_were_changed_are_kept(photos):
    model = edgepose.load("efficientlite-0-person", threads=1)
    model.codec = replace(model.codec, flip=False)
    model.detect.codec = replace(model.detect.codec, flip=False, scales=(1.0,))
    paths = sorted(photos.glob("*.jpg"))[:2]
    for answer, path in zip(model.many(paths, workers=2), paths, strict=True):
        same(answer.poses, model(path))


BUSY = """
import os, sys
from pathlib import Path
import edgepose
def times():
    tasks = Path("/proc/self/task").iterdir()
    fields = {t.name: (t / "stat").read_text().rsplit(")", 1)[1].split() for t in tasks}
    return {name: int(f[11]) + int(f[12]) for name, f in fields.items()}
paths = sorted(Path(sys.argv[1]).glob("*.jpg")) * 4
predictor = edgepose.load("litepose-xs", threads=int(sys.argv[2]))
before, busy = times(), {}
for answer in predictor.many(paths):
    busy = {name: t - before.get(name, 0) for name, t in times().items()}
print(sum(t > 0.05 * sum(busy.values()) for t in busy.values()))
"""


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="reads Linux' times of threads")
@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_threads_work_than_were_asked_for(photos, threads):
    command = [sys.executable, "-c", BUSY, str(photos), str(threads)]
    busy = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    assert int(busy) == threads, "ONNX Runtime's, OpenCV's and BLAS' threads rest"


MEMORY = """
import sys
from pathlib import Path
import edgepose
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20
predictor = edgepose.load(sys.argv[1], threads=2)
sizes = []
for answer in predictor.many([Path(sys.argv[2])] * int(sys.argv[3]), batch=2):
    assert answer.error is None, answer.error
    sizes.append(resident())
tenth = len(sizes) // 10
print(max(sizes[tenth : 2 * tenth]), max(sizes[-tenth:]))
"""


def grows(folder: Path, photo: Path, pictures: int) -> float:
    """MB that the resident memory of a process grows by, from its second tenth of `pictures` to the last."""
    command = [sys.executable, "-c", MEMORY, str(folder), str(photo), str(pictures)]
    first, last = map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split())
    return last - first


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="reads Linux' sizes of processes")
@pytest.mark.parametrize("pictures", [150, pytest.param(2000, marks=pytest.mark.slow)])
def test_memory_stays_flat(tmp_path, pictures):
    noise = np.random.default_rng(0).integers(0, 40, (600, 800, 3), np.uint8)  # 1.4 MB each, if they were kept
    photo = _tiny.write(tmp_path / "a.jpg", noise)
    assert grows(_tiny.model(tmp_path / "tiny"), photo, pictures) < 30
