"""The reference explainer of a small network, and shap itself beside it.

shap is driven here as its documentation says, with a new masker and a new
explainer for each image, and must give the same maps.
"""

from collections.abc import Callable
import functools
import importlib
import zlib

from attribution.explainers import shap_partition
from attribution.maskers import Masker
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shap

# The package's attribute of this name is the function.
_MODULE = importlib.import_module('attribution.explainers.shap_partition')
SHAPE = (8, 8, 3)
MAX_EVALS = 40
_COLOUR = (0.2, 0.5, 0.9)

_RNG = np.random.default_rng(0)
WEIGHTS = {
    'filters': _RNG.normal(size=(3, 3, 3, 4)).astype(np.float32),
    'dense': _RNG.normal(size=(4 * 4 * 4, 3)).astype(np.float32),
}


def network_score(weights, images: jax.Array) -> jax.Array:
  """A small convolutional network with three classes."""
  features = jax.lax.conv_general_dilated(
      images, weights['filters'], (2, 2), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return jnp.tanh(features).reshape(images.shape[0], -1) @ weights['dense']


_SCORE = jax.jit(network_score)


def numpy_score(images: np.ndarray) -> np.ndarray:
  return np.asarray(_SCORE(WEIGHTS, np.asarray(images, np.float32)))


# Four equal squares of four by four: the first halves and quarters that the
# explainer meets score exactly the same, and chance decides what comes first.
_TIED_WEIGHTS = np.tile(
    np.random.default_rng(5).integers(-9, 9, (4, 4, 3)), (2, 2, 1)
).astype(np.float32)


def tied_score(weights, images: jax.Array) -> jax.Array:
  del weights
  return jnp.stack([(images * _TIED_WEIGHTS).sum(axis=(1, 2, 3))] * 2, axis=1)


def make_images(count: int, shape=SHAPE, seed: int = 0) -> np.ndarray:
  """Images as files hold them: multiples of 1/255."""
  rng = np.random.default_rng(seed)
  values = rng.integers(0, 256, (count, *shape), np.uint8)
  return values.astype(np.float32) / 255


def make_background(images: np.ndarray, masker: str) -> np.ndarray:
  return np.asarray(Masker(masker, 3, _COLOUR).background(images))


def make_explainer(
    masker: str = 'blur', score_fn=network_score, mask_value=_COLOUR, **changes
):
  """Makes the reference explainer of (images, labels), of WEIGHTS."""
  options = {'max_evals': MAX_EVALS, 'batch_size': 10, **changes}
  explain = shap_partition(
      score_fn, masker=Masker(masker, 3, mask_value), **options
  )
  return functools.partial(explain, WEIGHTS)


def shap_maps(
    mask_value: np.ndarray | str,
    image: np.ndarray,
    outputs: list[int],
    *,
    score: Callable[[np.ndarray], np.ndarray] = numpy_score,
    batch_size: int = 10,
    max_evals: int = MAX_EVALS,
    seed: int = 0,
) -> np.ndarray:
  """Returns the maps of shap itself, [H, W, C, K'] of one image."""
  explainer = shap.PartitionExplainer(
      score, shap.maskers.Image(mask_value, image.shape)
  )
  np.random.seed(zlib.crc32(image.tobytes(), seed))  # Breaks ties alike.
  return explainer(
      image[None], max_evals=max_evals, batch_size=batch_size,
      outputs=outputs, silent=True,
  ).values[0]


class Recorder:
  """Stands in for the model and keeps every image that it is asked about."""

  def __init__(self):
    self.calls = []

  def __call__(self, score_fn, batch_size):
    del batch_size

    def call(weights, images):
      self.calls.append(np.array(images, np.float32))
      return np.asarray(score_fn(weights, images))

    return call

  @property
  def images(self) -> np.ndarray:
    return np.concatenate(self.calls)


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
  recorder = Recorder()
  monkeypatch.setattr(_MODULE, 'numpy_callable', recorder)
  return recorder
