"""Losses against values computed by hand."""

from impactx_jax import losses
import numpy as np
import pytest


def test_cross_entropy_by_hand():
  logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
  values = losses.cross_entropy(logits, np.array([0, 1]))
  np.testing.assert_allclose(values, [np.log(2), np.log(10)], rtol=1e-6)


def test_map_mse_is_the_mean_over_a_map():
  predicted = np.zeros((2, 1, 2, 1), np.float32)
  target = np.array([[[[1.0], [3.0]]], [[[0.0], [-2.0]]]], np.float32)
  # (1 + 9) / 2 and (0 + 4) / 2.
  np.testing.assert_allclose(losses.map_mse(predicted, target), [5, 2])


def test_map_mse_refuses_maps_that_would_broadcast():
  with pytest.raises(AssertionError):
    losses.map_mse(np.zeros((2, 4, 4, 3)), np.zeros((2, 4, 4, 1)))


def test_max_abs_scales_each_map_by_its_own_largest_magnitude():
  maps = np.array([[0.5, -2.0], [0.1, 0.05], [0, 0]], np.float32)
  scaled = losses.scale_maps(maps.reshape(3, 1, 2, 1), 'max_abs')
  np.testing.assert_allclose(
      scaled.reshape(3, 2), [[0.25, -1], [1, 0.5], [0, 0]]
  )


def test_global_std_keeps_the_ratio_between_maps():
  maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
  scaled = losses.scale_maps(maps, 'global_std', global_std=4.0)
  np.testing.assert_allclose(scaled, maps / 4)
  np.testing.assert_array_equal(losses.scale_maps(maps, 'none'), maps)
