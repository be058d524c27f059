"""Top-down samples: joints stay on what they marked, whatever the crop does."""

from dataclasses import replace

import numpy as np
import pytest

from edgepose.codecs.topdown import TopDown
from edgepose.data import Record
from edgepose.data._augment import Augment
from edgepose.data._loader import TopDownSamples
from edgepose.data._persons import PersonAugment, person
from edgepose.poses import Poses
from edgepose.skeleton import COCO17

PLAIN = Augment(flip=0, colour=0, grey=0, blur=0, occlusion=0)


def dotted(seed=0, people=1):
    """A black picture; joint k of person p is a white blob in channel k % 3, all joints well apart."""
    rng = np.random.default_rng(seed)
    image = np.zeros((400, 500, 3), np.uint8)
    cells = rng.permutation([(x, y) for x in range(60, 460, 40) for y in range(60, 360, 40)])[: 17 * people]
    xy = cells.reshape(people, 17, 2).astype(np.float32)
    for k, (x, y) in enumerate(xy[0]):
        image[y.astype(int) - 2 : y.astype(int) + 3, x.astype(int) - 2 : x.astype(int) + 3, k % 3] = 255
    boxes = np.concatenate([xy.min(1) - 20, xy.max(1) + 20], 1)
    truth = Poses(xy, np.ones((people, 17), np.float32), COCO17, boxes=boxes)
    return Record(1, "x", (500, 400), lambda: image, truth, np.ones(people, np.float32))


def blob(image, at, channel):
    """Centre of mass of `channel` within 8 pixels of `at`."""
    x, y = np.round(at).astype(int)
    part = image[max(0, y - 8) : y + 9, max(0, x - 8) : x + 9, channel].astype(float)
    yy, xx = np.mgrid[max(0, y - 8) : max(0, y - 8) + part.shape[0], max(0, x - 8) : max(0, x - 8) + part.shape[1]]
    return np.array([(part * xx).sum(), (part * yy).sum()]) / part.sum()


@pytest.mark.parametrize("method", ["shift", "udp"])
@pytest.mark.parametrize("flip", [0, 1])
def test_joints_move_with_the_picture(method, flip):
    record, codec = dotted(), TopDown(input_size=(384, 384), decode_with=method)
    look, seen = replace(PLAIN, flip=flip), 0
    for seed in range(20):
        sample = person(record, 0, codec, np.random.default_rng(seed), PersonAugment(turn=1.0), look)
        back = COCO17.mirror if flip else range(17)
        for k, xy in zip(back, sample.truth.xy[0], strict=True):  # row k of the flipped truth is the mirror joint's
            if (xy > 12).all() and (xy < 372).all():
                assert np.abs(blob(sample.image, xy, k % 3) - xy).max() < 0.6
                seen += 1
    assert seen > 150


def test_people_are_turned_as_far_as_asked():
    record, codec = dotted(), TopDown(input_size=(384, 384))
    still = PersonAugment(scale=0, turn=0, half_body=0, rotation=30)

    def angles(how):
        found = []
        for seed in range(40):
            xy = person(record, 0, codec, np.random.default_rng(seed), how, PLAIN).truth.xy[0]
            across, before = xy[16] - xy[0], record.truth.xy[0, 16] - record.truth.xy[0, 0]
            found.append(np.degrees(np.arctan2(*across[::-1]) - np.arctan2(*before[::-1])))
        return (np.array(found) + 180) % 360 - 180

    assert np.abs(angles(still)).max() < 0.1
    turned = angles(replace(still, turn=1.0))
    assert 20 < turned.std() < 40 and np.abs(turned).max() < 60.1


def test_the_crop_shows_the_person_that_was_asked_for():
    record, codec = dotted(people=2), TopDown(input_size=(96, 128))
    calm = PersonAugment(scale=0, turn=0, half_body=0)
    for row in range(2):
        sample = person(record, row, codec, np.random.default_rng(0), calm, PLAIN)
        want = codec.frame(record.truth.boxes[row])(record.truth.xy[row])
        np.testing.assert_allclose(sample.truth.xy[0], want, atol=1e-3)
        assert len(sample.truth) == 1


def test_half_bodies_fill_the_crop():
    record, codec = dotted(), TopDown(input_size=(96, 128))
    half = PersonAugment(scale=0, turn=0, half_body=1.0)
    shown = set()
    for seed in range(12):
        xy = person(record, 0, codec, np.random.default_rng(seed), half, PLAIN).truth.xy[0]
        for name, rows in (("upper", slice(0, 11)), ("lower", slice(11, 17))):
            inside = (xy[rows].mean(0) - np.array([48, 64])) / (96, 128)
            if np.abs(inside).max() < 1e-3:
                shown.add(name)
    assert shown == {"upper", "lower"}
    few = replace(half, half_body_joints=17)
    whole = person(record, 0, codec, np.random.default_rng(0), few, PLAIN).truth.xy[0]
    np.testing.assert_allclose(whole, codec.frame(record.truth.boxes[0])(record.truth.xy[0]), atol=1e-3)


def test_a_sample_number_is_a_sample_and_an_epoch_shows_everybody_once():
    records = [dotted(seed) for seed in range(5)]
    codec = TopDown(input_size=(48, 64))
    samples = TopDownSamples([(r, 0) for r in records], codec, PersonAugment(), Augment(), seed=3)
    one, again, other = samples[7], samples[7], samples[12]
    assert all(np.array_equal(one[k], again[k]) for k in one)
    assert not np.array_equal(one["image"], other["image"])
    assert one["heatmaps_0"].shape == (17, 16, 12) and one["weights"].shape == (17,)
    dark = replace(codec, mean=(0.5, 0.5, 0.5), std=(1.0, 1.0, 1.0))
    other = TopDownSamples(samples.people, dark, PersonAugment(), Augment(), seed=3)[7]["image"]
    std, mean = (np.array(v, np.float32)[:, None, None] for v in (codec.std, codec.mean))
    np.testing.assert_allclose(one["image"] * std + mean, other + 0.5, atol=1e-5)
    calm = TopDownSamples(
        samples.people, codec, PersonAugment(scale=0, turn=0, half_body=0), replace(PLAIN, flip=0), seed=3
    )
    first = {calm[n]["image"].tobytes() for n in range(5)}
    assert len(first) == 5 and first == {calm[n]["image"].tobytes() for n in range(5, 10)}
