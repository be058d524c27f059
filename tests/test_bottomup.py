"""The bottom-up codec: reference geometry, targets, and where a perfect network's people end up."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgepose.codecs.bottomup import LONGEST, BottomUp, mean_resized
from edgepose.codecs.tagmaps import TagMaps
from edgepose.poses import Poses
from edgepose.skeleton import COCO17
from edgepose.warp import Warp

GOLDEN = Path(__file__).parents[2] / "shared" / "golden" / "litepose.json"
golden = pytest.mark.skipif(not GOLDEN.exists(), reason="no reference values beside the repository")


def perfect_maps(codec: BottomUp, truth: Poses, size: tuple[int, int], step: float = 3.0) -> list[np.ndarray]:
    """What a perfect network gives for `truth` (input pixels): its targets, and tags `step` apart by person."""
    outputs: list[list[np.ndarray]] = [[] for _ in codec.strides]
    for people in (truth, truth.mirrored(size[0]))[: 2 if codec.flip else 1]:
        targets = codec.targets(people, size)
        heat = [targets[f"heatmaps_{i}"] for i in range(len(codec.strides))]
        columns = np.arange(heat[0].shape[2]) * codec.strides[0]
        tags = np.argmin([abs(columns - p[:, 0].mean()) for p in people.xy], 0) * step  # nearest person by x
        heat[0] = np.concatenate([heat[0], np.broadcast_to(tags, heat[0].shape)])
        for out, h in zip(outputs, heat, strict=True):
            out.append(h.astype(np.float32))
    return [np.stack(out) for out in outputs]


def errors(codec: BottomUp, image_size: tuple[int, int], seed: int, rounds: int = 12) -> np.ndarray:
    """Input-pixel errors of decoded joints for two people at random sub-pixel places of pictures of `image_size`."""
    rng, found = np.random.default_rng(seed), []
    warp = codec.frame(image_size)
    w, h = warp.size
    for _ in range(rounds):
        left = rng.uniform([16, 16], [w / 2 - 32, h - 16], (17, 2))
        right = rng.uniform([w / 2 + 32, 16], [w - 16, h - 16], (17, 2))
        truth = Poses(warp.back(np.stack([left, right])), np.ones((2, 17)), COCO17)
        maps = perfect_maps(codec, warp.poses(truth), warp.size)
        poses = codec.decode([maps], [[warp, warp.mirrored()][: 2 if codec.flip else 1]])
        assert len(poses) == 2
        order = np.argsort(poses.xy[:, :, 0].mean(1))
        found.append((warp(poses.xy[order]) - warp(truth.xy)).reshape(-1, 2))
    return np.concatenate(found)


@pytest.mark.parametrize("image_size", [(256, 256), (640, 480), (427, 640)])
def test_a_perfect_network_is_decoded_without_bias(image_size):
    error = errors(BottomUp(flip=False), image_size, 0)
    np.testing.assert_allclose(error.mean(0), 0, atol=0.12)
    assert np.abs(error).max() <= 2.6  # truncated to quarter-resolution pixels, so never exact


@pytest.mark.parametrize(("shift", "drift"), [(0.5, 0.12), (0.0, 0.62)])
def test_the_drift_of_the_flip_test_is_taken_back(shift, drift):
    """Truncation moves each orientation left in its own frame; their mean does not: the + 0.5 of `adjusted` stays."""
    error = errors(BottomUp(flip=True, flip_shift=shift), (640, 480), 1, 16)
    np.testing.assert_allclose(error.mean(0), [drift, 0], atol=0.1)


@golden
def test_frames_of_the_reference():
    for case in json.loads(GOLDEN.read_text())["resize"]:
        warp = BottomUp(input_size=case["input"]).frame((case["w"], case["h"]))
        assert list(warp.size) == case["size_wh"]
        np.testing.assert_allclose(warp.matrix, case["M"], atol=1e-6)


def test_frame_centres_the_picture_and_keeps_its_aspect():
    warp = BottomUp(input_size=256).frame((640, 480))
    assert warp.size == (384, 256)
    np.testing.assert_allclose(warp([[320, 240]]), [[192, 128]], atol=1e-4)
    np.testing.assert_allclose(warp.matrix[:, :2], np.eye(2) * 256 / 480, atol=1e-6)


@pytest.mark.parametrize("image_size", [(1, 1), (2, 3), (1, 9000), (10000, 10), (1200, 300), (1201, 300)])
def test_any_shape_of_picture_gives_a_bounded_input(image_size):
    image = np.full((image_size[1], image_size[0], 3), 255, np.uint8)
    (batch,), (warps,) = BottomUp().encode(image)
    assert len(batch) == len(warps) == 2 and max(batch.shape[2:]) <= LONGEST * 256
    assert batch.shape[2] % 64 == batch.shape[3] % 64 == 0 and np.isfinite(batch).all()


def test_a_huge_picture_is_averaged_not_sampled():
    image = np.zeros((3000, 4000, 3), np.uint8)
    image[::2] = 255  # one-pixel stripes: point samples would be black or white
    (batch,), ((warp,),) = BottomUp(flip=False).encode(image)
    middle = batch[0, 0, 64:192, 100:280] * 0.229 + 0.485
    np.testing.assert_allclose(middle, 0.5, atol=0.07)
    image = np.zeros((3000, 4000, 3), np.uint8)
    image[1490:1510, 2990:3010] = 255
    (batch,), ((warp,),) = BottomUp(flip=False).encode(image)
    light = batch[0, 0] - batch[0, 0].min()
    ys, xs = np.mgrid[: light.shape[0], : light.shape[1]]
    spot = np.array([(light * xs).sum(), (light * ys).sum()]) / light.sum()
    np.testing.assert_allclose(spot, warp([2999.5, 1499.5]), atol=0.1)


def test_encode_mirrors_the_second_picture_and_its_warp():
    image = np.random.default_rng(0).integers(0, 255, (60, 90, 3), np.uint8)
    (batch,), ((warp, mirrored),) = BottomUp(input_size=64).encode(image)
    np.testing.assert_array_equal(batch[1], batch[0, :, :, ::-1])
    x, y = warp([10, 20])
    np.testing.assert_allclose(mirrored([10, 20]), [warp.size[0] - 1 - x, y], atol=1e-4)


@golden
def test_targets_of_the_reference():
    case = json.loads(GOLDEN.read_text())["targets"]
    xy, scores = np.zeros((2, 17, 2)), np.zeros((2, 17))
    for person, joint, x, y, seen in case["joints"]:
        xy[int(person), int(joint)], scores[int(person), int(joint)] = (4 * x, 4 * y), seen
    out = BottomUp().targets(Poses(xy, scores, COCO17), (256, 256))
    for joint, total in case["sum_per_joint"].items():
        np.testing.assert_allclose(out["heatmaps_0"][int(joint)].sum(), total, rtol=1e-6)
    assert out["heatmaps_0"][0, 20, 10] == out["heatmaps_0"][3, 5, 0] == 1
    for person in (0, 1):
        np.testing.assert_array_equal(out["joints"][person, :3], case[f"joints_p{person}"])


def test_the_mirrored_picture_is_read_with_left_and_right_swapped():
    codec = BottomUp(refine=False)
    size = (128, 128)
    truth = Poses(np.random.default_rng(0).uniform(20, 108, (1, 17, 2)), np.ones((1, 17)), COCO17)
    maps = perfect_maps(codec, truth, size)
    identity = Warp.resize(size, size)
    both = codec.decode([maps], [[identity, identity.mirrored()]])
    assert both.scores.min() > 0.8
    swapped = [m.copy() for m in maps]
    for m in swapped:
        m[1] = m[1][:, :, ::-1]  # a network that mirrors nothing
    assert codec.decode([swapped], [[identity, identity.mirrored()]]).scores.mean() < 0.8


def test_scales_are_averaged_at_the_size_of_scale_one():
    codec = BottomUp(flip=False, scales=(0.5, 1.0))
    image_size = (320, 256)
    frames = [codec.frame(image_size, s) for s in codec.scales]
    truth = Poses(np.random.default_rng(0).uniform(40, 200, (1, 17, 2)), np.ones((1, 17)), COCO17)
    maps = [perfect_maps(codec, f.poses(truth), f.size) for f in frames]
    poses = codec.decode(maps, [[f] for f in frames])
    assert len(poses) == 1 and np.abs(poses.xy - truth.xy).mean() < 3
    alone = replace(codec, scales=(1.0,)).decode(maps[1:], [[frames[1]]])
    assert not np.array_equal(alone.scores, poses.scores)


def test_nobody_and_wrong_channels():
    codec = BottomUp(flip=False)
    maps = [np.zeros((1, 34, 16, 16), np.float32), np.zeros((1, 17, 32, 32), np.float32)]
    warp = Warp.resize((64, 64), (64, 64))
    assert len(codec.decode([maps], [[warp]])) == 0
    with pytest.raises(ValueError, match="17 joints"):
        codec.decode([[m[:, :14] for m in maps]], [[warp]])
    for bad in ({"nms_kernel": 4}, {"scales": (0.5, 2.0)}, {"threshold": -1}, {"input_size": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            BottomUp(**bad)


@pytest.mark.parametrize("shape", [(1, 20, 28), (3, 17, 23)])
def test_resizing_equals_torch(shape):
    torch = pytest.importorskip("torch")
    maps = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    h, w = shape[1:]
    step = torch.nn.functional.interpolate
    half = step(torch.tensor(maps)[None], (2 * h, 2 * w), mode="bilinear", align_corners=False)
    full = step(half, (4 * h, 4 * w), mode="bilinear", align_corners=False)[0].numpy()
    ours = np.stack([mean_resized([plane], (2 * w, 2 * h)) for plane in maps])
    np.testing.assert_allclose(ours, half[0].numpy(), atol=2e-6)
    tags = TagMaps.resized(maps[None], [(2 * w, 2 * h), (4 * w, 4 * h)])
    y, x = (a.ravel() for a in np.mgrid[: 4 * h, : 4 * w])
    for joint in range(len(maps)):
        np.testing.assert_allclose(tags.at(joint, y, x)[:, 0], full[joint].ravel(), atol=2e-6)
