"""Targets and sub-pixel peaks."""

from __future__ import annotations

import numpy as np
import pytest

from edgepose.codecs.heatmap import gaussian_targets, joint_table, peaks, unbiased_targets

ONE = np.ones((1, 1))


def test_gaussians_are_truncated_to_pixels_and_joined_by_the_maximum():
    maps = gaussian_targets(np.array([[[10.9, 20.2]], [[12.0, 20.0]]]), np.ones((2, 1)), (64, 64))
    assert maps.shape == (1, 64, 64) and maps[0, 20, 10] == maps[0, 20, 12] == 1
    np.testing.assert_allclose(maps[0, 20, 11], np.exp(-1 / 8), rtol=1e-6)
    assert maps[0, 20, 2] == 0 and maps[0, 20, 3] > 0  # reaches 7 pixels


@pytest.mark.parametrize(("xy", "kept"), [((-0.5, 5), True), ((-1, 5), False), ((63.9, 5), True), ((64, 5), False)])
def test_joints_outside_leave_no_trace(xy, kept):
    place = np.array([[xy]])
    assert gaussian_targets(place, ONE, (64, 64)).max() == float(kept)
    assert bool(joint_table(place, ONE, (64, 64))[0, 0, 1]) is kept
    assert not gaussian_targets(place, 0 * ONE, (64, 64)).any()


def test_joint_table_packs_and_caps():
    xy = np.tile(np.array([[1.5, 2.5], [99, 0], [3.0, 4.0]]), (40, 1, 1))
    table = joint_table(xy, np.ones((40, 3)), (10, 8))
    assert table.shape == (30, 3, 2)
    np.testing.assert_array_equal(table[29], [[21, 1], [2 * 80 + 43, 1], [0, 0]])


@pytest.mark.parametrize(("method", "worst"), [("shift", 0.5), ("dark", 0.02), ("udp", 0.02)])
def test_peaks_of_unrounded_gaussians(method, worst):
    places = np.random.default_rng(0).uniform(8, [40, 56], (200, 1, 2))
    maps = np.concatenate([unbiased_targets(p[None], ONE, (48, 64)) for p in places])[:, None]
    xy, value = peaks(maps, method)
    error = xy[:, 0] - places[:, 0]
    assert np.abs(error).max() < worst and np.abs(error.mean(0)).max() < 0.05 and value.min() > 0.9


@pytest.mark.parametrize("method", ["shift", "dark", "udp"])
def test_peaks_in_corners_flat_and_tiny_maps_are_finite(method):
    maps = np.zeros((3, 4, 6, 5), np.float32)
    maps[0, 0, 0, 0] = maps[0, 1, 5, 4] = maps[0, 2, 0, 4] = 1
    xy, value = peaks(maps, method)
    assert np.isfinite(xy).all() and value[0].tolist() == [1, 1, 1, 0]
    np.testing.assert_array_equal(xy[0, :3], [[0, 0], [4, 5], [4, 0]])
    assert np.isfinite(peaks(np.ones((1, 1, 1, 1)), method)[0]).all()


def test_quarter_shift_goes_to_the_higher_neighbour():
    maps = np.zeros((1, 1, 9, 9), np.float32)
    maps[0, 0, 4, 3:6], maps[0, 0, 3:6, 4] = (0.2, 1, 0.6), (0.5, 1, 0.1)
    np.testing.assert_array_equal(peaks(maps)[0][0, 0], [4.25, 3.75])


def test_unknown_method():
    with pytest.raises(ValueError, match="shift, dark, udp"):
        peaks(np.ones((1, 1, 4, 4)), "soft")
