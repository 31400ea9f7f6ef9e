"""Models of other frameworks: each works, or is told how it would."""

import attribution
from attribution.errors import InputError
import equinox as eqx
from flax import linen
from flax import nnx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

IMAGES = np.random.default_rng(0).random((3, 8, 8, 3), np.float32)
LABELS = np.array([0, 2, 1])
OPTIONS = {'masker': 'constant', 'max_evals': 20}


class Training(nnx.Module):

  def __init__(self, rngs):
    self.conv = nnx.Conv(3, 4, (3, 3), rngs=rngs)
    self.norm = nnx.BatchNorm(4, rngs=rngs)

  def __call__(self, x):
    return self.norm(self.conv(x)).mean(axis=(1, 2))


class Linen(linen.Module):

  @linen.compact
  def __call__(self, x):
    return linen.Conv(4, (3, 3))(x).mean(axis=(1, 2))


def equinox():
  return eqx.nn.Sequential([
      eqx.nn.Conv2d(3, 4, 3, key=jax.random.key(0)),
      eqx.nn.Lambda(lambda x: x.mean(axis=(1, 2))),
  ])


def of_module(name):
  """An object of a class that lies in the module of that name."""
  base = type('Base', (), {'__module__': name, '__call__': lambda self, x: x})
  return type('Net', (base,), {'__module__': 'mine'})()


@pytest.mark.parametrize(('score_fn', 'said'), [
    (of_module('torch.nn.modules.module'), 'torchax.extract_jax'),
    (of_module('keras.src.backend.tensorflow.layer'), "KERAS_BACKEND='jax'"),
    (of_module('keras.src.backend.torch.layer'), "KERAS_BACKEND='jax'"),
    (of_module('tensorflow.python.module.module'), r'call_tf\(module'),
    (Linen(), r'module.apply\(variables, images'),
    (np.ones(3), 'ndarray, which cannot be called'),
])
def test_what_is_no_function_of_jax_is_refused_before_images(score_fn, said):
  with pytest.raises(InputError, match=said):
    attribution.Explainer(score_fn)


@pytest.mark.parametrize(('score_fn', 'said'), [
    (Training(nnx.Rngs(0)), r'call model.eval\(\) first'),
    (equinox(), r'jax.vmap\(model\), with channels_first=True'),
    (jax.vmap(equinox()), 'channels_first=True and images'),
    (lambda x: np.asarray(x).mean(axis=(1, 2)), 'jax.pure_callback'),
    (lambda x: x[:, 0, 0] if x.sum() > 0 else x[:, 1, 0], 'use jnp.where'),
    (lambda x: x.mean(), r'must map images \[B, H, W, C\] to scores'),
    (lambda x: x[0, 0, 0, 0, 0], 'must be a pure function'),
])
def test_what_cannot_be_traced_is_told_what_it_needs(score_fn, said):
  with pytest.raises(InputError, match=said) as error:
    attribution.explain(score_fn, IMAGES, LABELS, **OPTIONS)
  assert '\n' not in str(error.value)


@pytest.mark.parametrize('explainer', [
    'partition', 'kernel_shap', 'integrated_gradients', 'expected_gradients',
    'grad_cam',
])
def test_channels_first_is_the_same_turned(explainer):
  weights = np.random.default_rng(1).normal(size=(8, 8, 3, 4)) / 8

  def features(x):
    return jnp.tanh(3 * x)

  def head(x):
    return jnp.einsum('bhwc,hwck->bk', x, weights)

  def first(fn):  # The same model, channels first inside and outside.
    def call(x):
      out = fn(x.transpose(0, 2, 3, 1))
      return out.transpose(0, 3, 1, 2) if out.ndim == 4 else out
    return call

  turned = IMAGES.transpose(0, 3, 1, 2)
  labels = np.stack([LABELS, LABELS + 1], axis=1)
  options = OPTIONS | {'explainer': explainer, 'grid': 2}
  last = attribution.explain(
      lambda x: head(features(x)), IMAGES, labels,
      layers=attribution.Layers(features, head), baselines=IMAGES[:2],
      **options,
  )
  found = attribution.explain(
      lambda x: first(head)(first(features)(x)), turned, labels,
      layers=attribution.Layers(first(features), first(head)),
      baselines=turned[:2], channels_first=True, **options,
  )
  assert found.shape == (3, 3, 8, 8, 2)
  np.testing.assert_allclose(found, np.moveaxis(last, 3, 1), atol=1e-6)


def test_an_equinox_module_channels_first():
  maps = attribution.explain(
      jax.vmap(equinox()), IMAGES.transpose(0, 3, 1, 2), LABELS,
      channels_first=True, **OPTIONS,
  )
  assert maps.shape == (3, 3, 8, 8) and np.ptp(maps) > 0


def test_scores_that_are_not_finite_where_parts_are_hidden():
  def score(x):  # Of the whole image it is finite, and of all hidden.
    left, right = x[:, :, :4].mean(axis=(1, 2)), x[:, :, 4:].mean(axis=(1, 2))
    return jnp.where((left > 0) == (right > 0), left, jnp.nan)

  with pytest.raises(InputError, match='map of image 0 is not finite.*masker'):
    attribution.explain(score, IMAGES, LABELS, **OPTIONS)
