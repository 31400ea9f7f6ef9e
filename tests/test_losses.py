"""Losses against values computed by hand."""

from impactx_jax import losses
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def test_cross_entropy_by_hand():
  logits = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.1, 0.8]]))
  values = losses.cross_entropy(logits, np.array([0, 1]))
  np.testing.assert_allclose(values, [np.log(2), np.log(10)], rtol=1e-6)


def test_binary_cross_entropy_by_hand():
  # Probabilities 1/2, 1/5 and 3/4 of the three classes.
  logits = np.log(np.array([[1, 1 / 4, 3], [1, 1 / 4, 3]], np.float32))
  labels = np.array([[1, 0, 1], [0, 1, 0]])
  values = losses.binary_cross_entropy(logits, labels)
  expected = [
      (np.log(2) + np.log(5 / 4) + np.log(4 / 3)) / 3,
      (np.log(2) + np.log(5) + np.log(4)) / 3,
  ]
  np.testing.assert_allclose(values, expected, rtol=1e-6)


@pytest.mark.parametrize(('loss', 'labels'), [
    (losses.cross_entropy, np.zeros((2, 3), int)),
    (losses.binary_cross_entropy, np.zeros(2, int)),
    (losses.binary_cross_entropy, np.zeros((2, 1), int)),
])
def test_labels_of_the_other_task_are_refused(loss, labels):
  with pytest.raises(AssertionError):
    loss(np.zeros((2, 3)), labels)


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


@pytest.mark.parametrize('scaling', ['none', 'global_std'])
def test_other_scalings_leave_the_maps_to_who_has_them_all(scaling):
  maps = np.arange(8, dtype=np.float32).reshape(2, 2, 2, 1)
  np.testing.assert_array_equal(losses.scale_maps(maps, scaling), maps)


def test_pool_averages_cells_and_spread_gives_pixels_their_cells_value():
  maps = np.arange(16, dtype=np.float32).reshape(1, 2, 4, 2)
  cells = losses.pool(maps, 2)
  # Of the first channel the left cell has 0, 2, 8, 10; the right 4, 6, 12, 14.
  np.testing.assert_array_equal(cells, [[[[5, 6], [9, 10]]]])
  pixels = losses.spread(cells, 2)
  assert pixels.shape == maps.shape
  np.testing.assert_array_equal(
      pixels[0, :, :, 0], [[5, 5, 9, 9], [5, 5, 9, 9]]
  )
  np.testing.assert_array_equal(losses.pool(pixels, 2), cells)


def test_cells_of_one_pixel_are_the_map():
  maps = np.random.default_rng(0).normal(size=(2, 3, 5, 1))
  np.testing.assert_array_equal(losses.pool(maps, 1), maps)
  np.testing.assert_array_equal(losses.spread(maps, 1), maps)


def test_targets_are_summed_then_averaged_then_scaled():
  maps = np.zeros((1, 2, 4, 3), np.float32)
  maps[0, 0, 0] = [1, 2, 5]  # Sums to 8, so its cell has 2.
  maps[0, 1, 3] = [-1, 0, -15]  # -16 and -4, the largest magnitude.
  options = dict(channels=1, cell=2, scaling='max_abs')
  expected = [[0.5, 0.5, -1, -1]] * 2
  for kind in (np.asarray, jnp.asarray):
    found = losses.targets(kind(maps), **options)
    assert isinstance(found, type(kind(maps)))
    assert found.shape == (1, 2, 4, 1)
    np.testing.assert_allclose(found[0, :, :, 0], expected)


def test_targets_keep_the_channels_when_asked():
  maps = np.random.default_rng(0).normal(size=(2, 4, 4, 3))
  found = losses.targets(maps, channels=0, cell=1, scaling='none')
  np.testing.assert_array_equal(found, maps)


# Of the papers' formulas: signed maps, what is inside, and each loss by hand.
SIGNED = np.array([[[4.0, 2.0], [-2.0, 1.0]]], np.float32)
UPPER = np.array([[[1.0, 1.0], [0.0, 0.0]]], np.float32)
BY_HAND = {
    'energy': 1 - 6 / 7,  # Of 4 + 2 + 1, 4 + 2 inside.
    'l1': 0.75 / 4,  # |1 - 1|, |1 - 1/2|, |0 - 0|, |0 - 1/4|.
    'ppce': np.log(2) / 2,  # Of 1 and 1/2.
    'rrr': 5 / 16,  # (-1/2)^2 + (1/4)^2.
}


@pytest.mark.parametrize('name', losses.LOCALISATION)
def test_localisation_losses_by_hand(name):
  loss = losses.LOCALISATION[name]
  np.testing.assert_allclose(loss(SIGNED, UPPER), BY_HAND[name], rtol=1e-6)
  np.testing.assert_allclose(loss(7 * SIGNED, UPPER), BY_HAND[name], rtol=1e-6)
  # None depends on the scale of a map, so none pulls at it.
  gradient = jax.grad(lambda x: loss(x, UPPER).sum())(jnp.asarray(SIGNED))
  assert abs((gradient * SIGNED).sum()) < 1e-6 < abs(gradient).max()


@pytest.mark.parametrize('name', losses.LOCALISATION)
@pytest.mark.parametrize('maps', [0 * SIGNED, -abs(SIGNED)], ids=['0', 'below'])
@pytest.mark.parametrize('masks', [UPPER, 0 * UPPER, 0 * UPPER + 1],
                         ids=['upper', 'none', 'all'])
def test_localisation_of_nothing_is_finite(name, maps, masks):
  def mean(x):
    return losses.LOCALISATION[name](x, masks).mean()

  value, gradient = jax.value_and_grad(mean)(jnp.asarray(maps))
  assert np.isfinite(value) and np.isfinite(gradient).all()


def test_the_whole_image_as_mask_asks_nothing_of_energy_and_rrr():
  masks = np.ones_like(SIGNED)
  for loss in (losses.energy_loss, losses.rrr_loss):
    value, gradient = jax.value_and_grad(
        lambda x, loss=loss: loss(x, masks).sum()
    )(jnp.asarray(SIGNED))
    assert abs(value) < 1e-6 and abs(gradient).max() < 1e-6


@pytest.mark.parametrize(
    ('detached', 'of_worst'), [(False, -1 / 8), (True, 1 / 2)]
)
def test_rrr_raises_the_worst_pixel_unless_its_largest_is_detached(
    detached, of_worst
):
  maps = jnp.array([[[1.0, 1.0], [4.0, 2.0]]])
  gradient = jax.grad(
      lambda x: losses.rrr_loss(x, UPPER, detached=detached).sum()
  )(maps)
  np.testing.assert_allclose(gradient[0, 1, 0], of_worst, rtol=1e-6)
