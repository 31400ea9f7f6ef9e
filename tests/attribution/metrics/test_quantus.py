"""Perturbation curves against Quantus 0.6 (the extra `parity`)."""

from attribution.metrics import perturbation
import jax
import jax.numpy as jnp
import numpy as np
import pytest

quantus = pytest.importorskip(
    'quantus', reason='Quantus is not installed: pip install .[parity]'
)

COUNT, VALUE = 6, 0.5
RNG = np.random.default_rng(0)


def make_case(channels):
  """Images, maps without ties, classes, and a network that is not linear."""
  images = RNG.random((COUNT, 16, 16, channels), dtype=np.float32)
  maps = RNG.normal(size=images.shape).astype(np.float32)
  weights = RNG.normal(size=(16 * 16 * channels, 4)).astype(np.float32)

  def score(images):
    hidden = jnp.tanh(images.reshape(len(images), -1) @ weights / 8)
    return jax.nn.softmax(hidden)

  return images, maps, np.arange(COUNT) % 4, score


class QuantusModel:
  """What Quantus asks of a model, without PyTorch; its channels come first."""

  def __init__(self, score):
    self._score = jax.jit(score)

  def shape_input(self, x, shape, channel_first=None, batched=False):
    del shape, channel_first, batched
    return x

  def predict(self, x):
    return np.asarray(self._score(np.moveaxis(x, 1, -1)))


def quantus_scores(metric, images, maps, classes, score):
  found = metric.evaluate_batch(
      model=QuantusModel(score),
      x_batch=np.moveaxis(images, -1, 1),
      y_batch=classes,
      a_batch=np.moveaxis(maps, -1, 1),
  )
  return np.array(found)


def our_curves(images, maps, classes, score, *, region, order='morf'):
  curve_fn = perturbation.perturbation_curves(
      lambda variables, x: score(x), region=region, order=order
  )
  replacement = np.full_like(images, VALUE)
  return curve_fn({}, images, maps, classes, jax.random.key(0), replacement)


@pytest.mark.parametrize('order', ['morf', 'lerf'])
@pytest.mark.parametrize('channels', [1, 3])
def test_region_perturbation(order, channels):
  case = make_case(channels)
  metric = quantus.RegionPerturbation(
      patch_size=4, regions_evaluation=16, order=order,
      perturb_baseline=VALUE, normalise=False, disable_warnings=True,
  )
  theirs = quantus_scores(metric, *case)
  ours = our_curves(*case, region=4, order=order)
  np.testing.assert_allclose(
      ours[:, :1] - ours[:, 1:], theirs.reshape(COUNT, -1), atol=1e-6
  )


def test_pixel_flipping():
  case = make_case(1)
  metric = quantus.PixelFlipping(
      features_in_step=1, perturb_baseline=VALUE, normalise=False,
      disable_warnings=True,
  )
  theirs = quantus_scores(metric, *case)
  ours = our_curves(*case, region=1)
  np.testing.assert_allclose(
      ours[:, 1:], theirs.reshape(COUNT, -1), atol=1e-6
  )
