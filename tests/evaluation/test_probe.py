"""What a linear probe finds in a code, and does not."""

from impactx_jax.evaluation import probe
import numpy as np
import pytest

RNG = np.random.default_rng(0)
CODES = RNG.normal(size=(300, 5))


def maps_of(codes, noise=0.0):
  """A linear function of the codes, 8x8 cells of 2x2 pixels, and noise."""
  weights = np.random.default_rng(1).normal(size=(codes.shape[1], 64))
  cells = (codes @ weights).reshape(-1, 8, 8, 1)
  cells = cells + noise * RNG.normal(size=cells.shape)
  return cells.repeat(2, axis=1).repeat(2, axis=2)


def test_all_of_what_is_linear_in_the_code():
  assert probe.r2(CODES, maps_of(CODES)) == pytest.approx(1, abs=1e-4)


def test_the_share_that_is_not_noise():
  """The signal's variance is 5, of weights that are normal."""
  found = probe.r2(CODES, maps_of(CODES, noise=5**0.5))
  assert found == pytest.approx(0.5, abs=0.08)


def test_nothing_of_other_images_maps():
  """It is judged on images it has not seen, and so does not overfit."""
  many = RNG.normal(size=(300, 200))
  assert probe.r2(many, maps_of(CODES)) < 0.03


def test_the_order_of_images_and_the_scale_of_codes_are_nothing():
  codes, maps = CODES[np.argsort(CODES[:, 0])], maps_of(CODES, noise=1.0)
  maps = maps[np.argsort(CODES[:, 0])]
  assert probe.r2(codes, maps) == pytest.approx(
      probe.r2(CODES, maps_of(CODES, noise=1.0)), abs=0.05
  )
  assert probe.r2(1e-3 * codes + 5, maps) == pytest.approx(
      probe.r2(codes, maps), abs=1e-6
  )


def test_few_pixels_are_cells_themselves():
  maps = maps_of(CODES)[:, ::4, ::4]
  assert maps.shape == (300, 4, 4, 1)
  assert probe.r2(CODES, maps) == pytest.approx(1, abs=1e-4)


def test_sides_that_cells_do_not_divide_are_read_in_uneven_cells():
  codes = RNG.normal(size=(200, 3))
  maps = np.zeros((200, 9, 11, 1))
  maps[:, 8, 10, 0] = codes[:, 0]  # In the last cell, of 2x2 pixels.
  assert probe.r2(codes, maps) == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(('codes', 'maps'), [
    (CODES[:49], maps_of(CODES)[:49]), (CODES, np.ones((300, 8, 8, 1))),
])
def test_nothing_is_said_of_few_images_or_of_equal_maps(codes, maps):
  assert probe.r2(codes, maps) is None
