"""Tests that the reference explainer is shap's own, less its three traps.

shap is driven here as its documentation says, with a new masker and a new
explainer for each image, and must give the same maps.
"""

from collections.abc import Callable
import importlib
import zlib

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import EXPLAINERS
from attribution.explainers import shap_partition
import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shap

# The package's attribute of this name is the function.
_MODULE = importlib.import_module('attribution.explainers.shap_partition')
_SHAPE = (8, 8, 3)
_MAX_EVALS = 40
_COLOUR = (0.2, 0.5, 0.9)

_RNG = np.random.default_rng(0)
_FILTERS = _RNG.normal(size=(3, 3, 3, 4)).astype(np.float32)
_DENSE = _RNG.normal(size=(4 * 4 * 4, 3)).astype(np.float32)


def _score(images: jax.Array) -> jax.Array:
  """A small convolutional network with three classes."""
  features = jax.lax.conv_general_dilated(
      images, _FILTERS, (2, 2), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return jnp.tanh(features).reshape(images.shape[0], -1) @ _DENSE


_SCORE = jax.jit(_score)


def _numpy_score(images: np.ndarray) -> np.ndarray:
  return np.asarray(_SCORE(np.asarray(images, np.float32)))


# Four equal squares of four by four: the first halves and quarters that the
# explainer meets score exactly the same, and chance decides what comes first.
_TIED_WEIGHTS = np.tile(
    np.random.default_rng(5).integers(-9, 9, (4, 4, 3)), (2, 2, 1)
).astype(np.float32)


def _tied_score(images: jax.Array) -> jax.Array:
  return jnp.stack([(images * _TIED_WEIGHTS).sum(axis=(1, 2, 3))] * 2, axis=1)


def _images(count: int, shape=_SHAPE, seed: int = 0) -> np.ndarray:
  """Images as files hold them: multiples of 1/255."""
  rng = np.random.default_rng(seed)
  values = rng.integers(0, 256, (count, *shape), np.uint8)
  return values.astype(np.float32) / 255


def _background(images: np.ndarray, masker: str) -> np.ndarray:
  return maskers.background(images, masker, blur_kernel=3, mask_value=_COLOUR)


def _explainer(masker: str = 'blur', score_fn=_score, **changes):
  options = {
      'blur_kernel': 3,
      'mask_value': _COLOUR,
      'max_evals': _MAX_EVALS,
      'batch_size': 10,
      **changes,
  }
  return shap_partition(score_fn, masker=masker, **options)


def _shap(
    mask_value: np.ndarray | str,
    image: np.ndarray,
    outputs: list[int],
    *,
    score: Callable[[np.ndarray], np.ndarray] = _numpy_score,
    batch_size: int = 10,
    max_evals: int = _MAX_EVALS,
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


class _Recorder:
  """Stands in for the model and keeps every image that it is asked about."""

  def __init__(self):
    self.calls = []

  def __call__(self, score_fn, batch_size):
    del batch_size

    def call(images):
      self.calls.append(np.array(images, np.float32))
      return np.asarray(score_fn(images))

    return call

  @property
  def images(self) -> np.ndarray:
    return np.concatenate(self.calls)


@pytest.fixture
def recorder(monkeypatch) -> _Recorder:
  recorder = _Recorder()
  monkeypatch.setattr(_MODULE, 'numpy_callable', recorder)
  return recorder


@pytest.mark.parametrize('masker', maskers.BACKGROUND_MASKERS)
def test_maps_are_those_of_shap(masker):
  images = _images(3)
  labels = np.array([2, 0, 1])
  maps = _explainer(masker)(images, labels)
  assert maps.shape == images.shape
  assert maps.dtype == np.float32
  hidden = _background(images, masker)
  for i, label in enumerate(labels):
    expected = _shap(hidden[i], images[i], [label])[..., 0]
    np.testing.assert_allclose(maps[i], expected, atol=1e-6)


def test_maps_are_those_of_shap_with_one_mask_value():
  images = _images(1)
  maps = _explainer('constant', mask_value=0.25)(images, np.array([1]))
  expected = _shap(np.full(_SHAPE, 0.25), images[0], [1])[..., 0]
  np.testing.assert_allclose(maps[0], expected, atol=1e-6)


@pytest.mark.parametrize(
    ('max_evals', 'batch_size'), [(100, 2), (100, 60), (31, 10), (3, 10)]
)
def test_maps_are_those_of_shap_at_any_budget(max_evals, batch_size):
  images = _images(1, seed=1)
  budget = {'max_evals': max_evals, 'batch_size': batch_size}
  maps = _explainer('blur', **budget)(images, np.array([0]))
  hidden = _background(images, 'blur')
  expected = _shap(hidden[0], images[0], [0], **budget)[..., 0]
  np.testing.assert_allclose(maps[0], expected, atol=1e-6)


@pytest.mark.parametrize('seed', [0, 7])
def test_ties_are_broken_as_shap_breaks_them(seed):
  images = np.ones((1, *_SHAPE), np.float32)
  budget = {'max_evals': 14, 'seed': seed}
  explain = _explainer('constant', _tied_score, mask_value=0.0, **budget)
  expected = _shap(
      np.zeros(_SHAPE, np.float32), images[0], [1],
      score=lambda x: np.asarray(_tied_score(x)), **budget,
  )[..., 0]
  np.testing.assert_allclose(
      explain(images, np.array([1]))[0], expected, atol=1e-6
  )


def test_the_seed_decides_ties_and_only_ties():
  tied = np.ones((1, *_SHAPE), np.float32)
  label = np.array([1])

  def maps(score_fn, images, seed):
    explain = _explainer(
        'constant', score_fn, mask_value=0.0, max_evals=14, seed=seed
    )
    return explain(images, label)

  several = {maps(_tied_score, tied, seed).tobytes() for seed in range(6)}
  assert len(several) > 1
  other = _images(1)
  np.testing.assert_array_equal(
      maps(_score, other, 0), maps(_score, other, 1)
  )


def test_every_image_is_masked_with_its_own_blur(recorder):
  images = _images(20)
  explain = _explainer('blur')
  explain(images, np.arange(20) % 3)
  hidden = np.stack([cv2.blur(image, (3, 3)) for image in images])
  seen = recorder.images
  assert len(seen) >= 20 * (_MAX_EVALS - 1)
  # Whether each pixel asked about is the image's own, or its own blur's.
  own = [
      ((seen == image) | (seen == blur)).all(axis=(1, 2, 3))
      for image, blur in zip(images, hidden, strict=True)
  ]
  # Nothing is a mixture of two images, and each image has its share.
  assert np.sum(own, axis=0).min() == 1
  assert np.sum(own, axis=1).min() >= _MAX_EVALS - 1
  for i in range(20):
    assert (seen == hidden[i]).all(axis=(1, 2, 3)).any()


def test_the_blur_of_shap_itself_is_that_of_another_image():
  # The trap that the test above is about. It may go in a later shap, and then
  # the explainer may use shap's own blur.
  images = _images(20)
  masker = shap.maskers.Image('blur(3,3)', _SHAPE)
  nothing = np.zeros(images[0].size, bool)
  image = np.empty(images[0].size, np.float32)
  wrong = 0
  for given in images:
    image[:] = given.ravel()  # The same object, as temporary ones can be.
    masked = masker(nothing, image)[0].reshape(_SHAPE)
    wrong += not np.allclose(masked, cv2.blur(given, (3, 3)))
  assert wrong == 19


@pytest.mark.parametrize('masker', maskers.MASKERS)
def test_a_map_sums_to_what_hiding_everything_changes(masker):
  # Of several images in one call, so that neither the background nor the
  # base value of one may serve for the next.
  images = _images(4)
  images[1] = np.rint(images[1] * 51) / 255  # A dark one among them.
  labels = np.array([0, 1, 2, 1])
  maps = _explainer(masker)(images, labels)
  rows = np.arange(4)
  full = _numpy_score(images)[rows, labels]
  base = _numpy_score(_background(images, masker))[rows, labels]
  assert np.abs(full - base).min() > 1e-2
  np.testing.assert_allclose(
      maps.sum(axis=(1, 2, 3)), full - base, atol=1e-4
  )


def test_the_base_value_is_not_that_of_the_image_before():
  # Two images with backgrounds of very different scores.
  images = np.stack([np.full(_SHAPE, 0.0), np.full(_SHAPE, 1.0)])
  images[:, 0, 0, 0] = 0.5
  images = images.astype(np.float32)
  labels = np.array([0, 0])
  hidden = _background(images, 'blur')
  full, base = _numpy_score(images)[:, 0], _numpy_score(hidden)[:, 0]
  assert abs(base[0] - base[1]) > 0.5
  sums = _explainer('blur')(images, labels).sum(axis=(1, 2, 3))
  np.testing.assert_allclose(sums, full - base, atol=1e-4)


@pytest.mark.parametrize('masker', maskers.INPAINT_MASKERS)
def test_inpainting_is_that_of_shap_on_the_image_in_bytes(masker):
  images = _images(2)
  labels = np.array([0, 2])
  maps = _explainer(masker)(images, labels)
  for i, label in enumerate(labels):
    in_bytes = np.rint(images[i] * 255)
    expected = _shap(
        masker, in_bytes, [label], score=lambda x: _numpy_score(x / 255)
    )[..., 0]
    np.testing.assert_allclose(maps[i], expected, atol=1e-6)


def test_inpainting_an_image_below_1_is_what_shap_breaks():
  image = np.minimum(_images(1)[0], np.float32(254 / 255))
  label = np.array([1])
  ours = _explainer('inpaint_telea')(image[None], label)[0]
  broken = _shap('inpaint_telea', image, [1])[..., 0]
  full, black, base = _numpy_score(
      np.stack([
          image,
          np.zeros_like(image),
          _background(image[None], 'inpaint_telea')[0],
      ])
  )[:, 1]
  # Cast to integers, every pixel below 1 is black, visible or not.
  assert abs(full - black) > 0.1
  assert ours.sum() == pytest.approx(float(full - base), abs=1e-4)
  assert broken.sum() == pytest.approx(float(black - base), abs=1e-4)
  assert np.linalg.norm(ours - broken) > 0.5 * np.linalg.norm(ours)


@pytest.mark.parametrize('rest', [-0.3, 0.3])
def test_inpainting_rounds_to_the_nearest_byte(rest):
  # Where a cast alone would make 99.7 into 99.
  image = np.clip(_images(1), 0.1, 0.9)
  image = np.rint(image * 255) / np.float32(255)
  explain = _explainer('inpaint_telea')
  np.testing.assert_array_equal(
      explain(image + np.float32(rest / 255), np.array([0])),
      explain(image, np.array([0])),
  )


def test_the_model_sees_inpainted_images_between_0_and_1(recorder):
  image = _images(1)
  _explainer('inpaint_telea')(image, np.array([0]))
  seen = recorder.images
  assert seen.min() >= 0
  assert 0.5 < seen.max() <= 1
  # Nothing hidden: the image itself, neither scaled nor rounded off.
  np.testing.assert_allclose(seen[1], image[0], atol=1e-6)


@pytest.mark.parametrize('classes', [[[2, 0], [1, 2]], [[0, 1, 2], [1, 2, 0]]])
def test_several_classes_give_a_map_each(classes):
  images = _images(2)
  classes = np.array(classes)
  maps = _explainer('blur')(images, classes)
  assert maps.shape == (*images.shape, classes.shape[1])
  assert maps.dtype == np.float32
  hidden = _background(images, 'blur')
  change = _numpy_score(images) - _numpy_score(hidden)
  for i in range(2):
    np.testing.assert_allclose(
        maps[i], _shap(hidden[i], images[i], classes[i]), atol=1e-6
    )
    np.testing.assert_allclose(
        maps[i].sum(axis=(0, 1, 2)), change[i, classes[i]], atol=1e-4
    )


def test_one_class_an_image_may_be_a_column():
  images = _images(2)
  labels = np.array([2, 1])
  explain = _explainer('blur')
  column = explain(images, labels[:, None])
  assert column.shape == (*images.shape, 1)
  np.testing.assert_array_equal(column[..., 0], explain(images, labels))


@pytest.mark.parametrize('masker', ['blur', 'inpaint_telea'])
def test_a_map_does_not_depend_on_neighbours_or_order(masker):
  images = _images(4)
  labels = np.array([0, 1, 2, 0])
  explain = _explainer(masker)
  maps = explain(images, labels)
  order = np.array([2, 0, 3, 1])
  np.testing.assert_array_equal(
      explain(images[order], labels[order]), maps[order]
  )
  fresh = _explainer(masker)
  np.testing.assert_array_equal(
      fresh(images[3:], labels[3:]), maps[3:]
  )


def test_ties_do_not_depend_on_neighbours_or_the_global_random_state():
  images = np.ones((3, *_SHAPE), np.float32)
  images[1] *= 0.5
  images[2] *= 0.25
  labels = np.array([0, 1, 0])
  explain = _explainer('constant', _tied_score, mask_value=0.0, max_evals=14)
  maps = explain(images, labels)
  for seed in range(4):
    np.random.seed(seed)
    for i in range(3):
      np.testing.assert_array_equal(
          explain(images[i : i + 1], labels[i : i + 1])[0], maps[i]
      )


def test_images_of_several_shapes_take_turns():
  def score(images):
    return jnp.stack([images.sum(axis=(1, 2, 3))] * 2, axis=1) ** 2

  explain = _explainer('blur', score)
  for shape in [(8, 8, 3), (6, 10, 1), (8, 8, 3)]:
    images = _images(2, shape)
    maps = explain(images, np.array([0, 1]))
    assert maps.shape == images.shape
    change = score(images) - score(_background(images, 'blur'))
    np.testing.assert_allclose(
        maps.sum(axis=(1, 2, 3)), change[:, 0], rtol=1e-3, atol=1e-2
    )


def test_jax_arrays_are_as_good_as_numpy_arrays():
  images = _images(2)
  labels = np.array([2, 1])
  explain = _explainer('blur')
  maps = explain(jnp.asarray(images), jnp.asarray(labels))
  assert isinstance(maps, np.ndarray)
  np.testing.assert_array_equal(maps, explain(images, labels))


def test_the_images_are_not_changed():
  images = _images(2)
  copy = images.copy()
  for masker in ('blur', 'inpaint_telea'):
    _explainer(masker)(images, np.array([0, 1]))
  np.testing.assert_array_equal(images, copy)


def _state() -> list:
  return [np.asarray(part).tolist() for part in np.random.get_state()]


def test_the_global_random_state_is_restored():
  np.random.seed(3)
  before = _state()
  _explainer('blur')(_images(2), np.array([0, 1]))
  assert _state() == before


def test_the_global_random_state_is_restored_after_an_error(recorder):
  def failing(images):
    if len(recorder.calls) > 3:
      raise OSError('the device is gone')
    return _score(images)

  np.random.seed(3)
  before = _state()
  with pytest.raises(OSError, match='the device is gone'):
    _explainer('blur', failing)(_images(1), np.array([0]))
  assert _state() == before


# shap evaluates two halves at a time, so that an odd budget is one too small.
@pytest.mark.parametrize('masker', ['blur', 'inpaint_ns'])
@pytest.mark.parametrize(
    ('max_evals', 'evaluations'), [(2, 2), (3, 4), (20, 20), (31, 32), (60, 60)]
)
def test_max_evals_bounds_the_evaluations(
    recorder, masker, max_evals, evaluations
):
  explain = _explainer(masker, max_evals=max_evals)
  explain(_images(1), np.array([0]))
  assert len(recorder.images) == evaluations
  explain(_images(1, seed=1), np.array([0]))  # And of each image.
  assert len(recorder.images) == 2 * evaluations


def test_batch_size_bounds_what_is_asked_at_once(recorder):
  _explainer('blur', batch_size=6, max_evals=60)(_images(1), np.array([0]))
  assert max(len(call) for call in recorder.calls) == 6


def test_bad_options_are_refused_when_it_is_built():
  def untouched(images):
    raise AssertionError('compiled before the check')

  with pytest.raises(InputError, match="Did you mean 'blur'"):
    shap_partition(untouched, masker='blurr')
  with pytest.raises(InputError, match='-1 pixels'):
    shap_partition(untouched, blur_kernel=-1)


def test_it_is_registered():
  assert EXPLAINERS['shap_partition'] is shap_partition
