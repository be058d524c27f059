"""The top-down codec: crops, and where a perfect network's joints end up."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.codecs.topdown import TopDown
from edgepose.poses import Poses
from edgepose.skeleton import COCO17


def errors(codec: TopDown, seed: int = 0, rounds: int = 30) -> np.ndarray:
    """Input-pixel errors of decoded joints at random sub-pixel places."""
    rng, found = np.random.default_rng(seed), []
    w, h = codec.input_size
    for _ in range(rounds):
        warp = codec.frame(np.array([30, 40, *rng.uniform([70, 100], [230, 340])]))
        truth = Poses(warp.back(rng.uniform(24, [w - 24, h - 24], (1, 17, 2))), np.ones((1, 17)), COCO17)
        inside = warp.poses(truth)
        maps = [codec.targets(p, codec.input_size)["heatmaps_0"] for p in (inside, inside.mirrored(w))]
        count = 2 if codec.flip else 1
        poses = codec.decode([[np.stack(maps[:count])]], [[warp, warp.mirrored()][:count]])
        found.append((warp(poses.xy) - warp(truth.xy))[0])
    return np.concatenate(found)


@pytest.mark.parametrize(
    ("method", "flip", "bias", "worst"),
    [
        ("shift", False, 0, 2.1),  # targets are rounded to 4 input pixels
        ("dark", False, 0, 2.1),
        ("dark", True, 0.5, 2.1),  # one pixel of shift where three quarters would be right (HRNet)
        ("udp", False, 0, 0.05),
        ("udp", True, 0, 0.05),
    ],
)
def test_round_trip_of_a_perfect_network(method, flip, bias, worst):
    error = errors(TopDown(decode_with=method, flip=flip))
    np.testing.assert_allclose(error.mean(0), [bias, 0], atol=0.02 if method == "udp" else 0.2)
    assert np.abs(error).max() < worst


def test_crop_has_the_padded_box_in_the_middle():
    warp = TopDown().frame(np.array([100, 100, 160, 260]))  # 160 high: height decides, 200 with padding
    np.testing.assert_allclose(warp([130, 180]), [96, 128], atol=1e-4)
    np.testing.assert_allclose(warp.matrix[:, :2], np.eye(2) * 256 / 200)


def test_encode_reads_the_right_pixels():
    image = np.zeros((300, 400, 3), np.uint8)
    image[150, 250] = 255
    codec = TopDown(decode_with="udp")
    (batch,), (warps,) = codec.encode(image, np.array([[210, 90, 290, 210], [0, 0, 50, 50]]))
    assert batch.shape == (4, 3, 256, 192) and len(warps) == 4
    y, x = np.unravel_index(batch[0, 0].argmax(), (256, 192))
    np.testing.assert_allclose([x, y], warps[0]([250, 150]), atol=0.6)
    np.testing.assert_array_equal(batch[2], batch[0, :, :, ::-1])
    assert codec.encode(image)[0][0].shape == (2, 3, 256, 192)
    assert codec.encode(image, np.zeros((0, 4))) == ([], []) and len(codec.decode([], [])) == 0


def test_person_score_is_the_mean_of_sure_joints():
    codec = TopDown(flip=False)
    maps = np.zeros((1, 17, 64, 48), np.float32)
    maps[0, 0, 5, 5], maps[0, 1, 9, 9], maps[0, 2, 9, 9] = 0.9, 0.5, 0.1
    poses = codec.decode([[maps]], [[codec.frame(np.array([0, 0, 30, 60]))]])
    np.testing.assert_allclose(poses.person_scores, [0.7], rtol=1e-6)


def test_targets_weigh_joints_inside_only():
    xy = np.full((1, 17, 2), 50.0)
    xy[0, 1], scores = (-9, 50), np.ones((1, 17))
    scores[0, 2] = 0
    out = TopDown().targets(Poses(xy, scores, COCO17), (192, 256))
    assert out["weights"].tolist() == [1, 0, 0] + [1] * 14
    assert out["heatmaps_0"][0, 13, 13] == 1 and not out["heatmaps_0"][1:3].any()


def test_bad_values():
    for bad in ({"decode_with": "soft"}, {"input_size": (190, 256)}, {"padding": 0}):
        with pytest.raises(ValueError, match=next(iter(bad))):
            TopDown(**bad)
    with pytest.raises(ValueError, match="finite"):
        TopDown().encode(np.zeros((9, 9, 3), np.uint8), np.array([[0, 0, np.nan, 1]]))
