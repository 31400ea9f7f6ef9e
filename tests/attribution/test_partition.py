"""Tests that `partition` has shap's tree, queue, budget and values."""

import functools
import itertools

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import partition_tree
from attribution.explainers.batched import CALL_IMAGES
from attribution.explainers.partition import partition
from attribution.maskers import Masker
from attribution.model_fn import numpy_callable
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import shap

SHAPES = [(8, 8, 1), (7, 5, 3), (12, 12, 3)]
UNLIMITED = 10**6


def _weights(shape, classes=4, seed=0):
  """Of a small dense network, with interactions between all pixels."""
  rng = np.random.default_rng(seed)
  size = int(np.prod(shape))
  widths = [(size, 16), (16, 16), (16, classes)]
  return [
      (2 * rng.normal(size=width) / np.sqrt(width[0])).astype(np.float32)
      for width in widths
  ]


def _logits(weights, images):
  hidden = images.reshape(len(images), -1)
  for layer in weights[:-1]:
    hidden = jnp.tanh(hidden @ layer)
  return hidden @ weights[-1]


def _probabilities(weights, images):
  return jax.nn.softmax(_logits(weights, images))


def _images(shape, count=3, seed=1):
  return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def _by_shap(
    score_fn, weights, images, classes, *, max_evals, batch_size,
    masker=maskers.BLUR,
):
  """shap as documented, with a new masker and explainer for each image."""
  call = functools.partial(numpy_callable(score_fn, 16), weights)
  backgrounds = np.asarray(masker.background(images))
  maps = []
  for image, background, outputs in zip(
      images, backgrounds, classes, strict=True
  ):
    explainer = shap.PartitionExplainer(
        call, shap.maskers.Image(background, image.shape)
    )
    explanation = explainer(
        image[None],
        max_evals=max_evals,
        batch_size=batch_size,
        outputs=outputs,
        silent=True,
    )
    maps.append(explanation.values[0])
  return np.stack(maps)


def _assert_close(maps, expected, tolerance=1e-4):
  """Relative L2 distance of every map, to `tolerance`."""
  assert maps.shape == expected.shape
  assert maps.dtype == np.float32
  for ours, theirs in zip(maps, expected, strict=True):
    norm = np.linalg.norm(theirs)
    assert norm > 1e-3  # Or the comparison would be empty.
    assert np.linalg.norm(ours - theirs) <= tolerance * norm


@pytest.mark.parametrize('batch_size', [2, 10, 50])
@pytest.mark.parametrize('shape', SHAPES)
def test_parity_with_shap(shape, batch_size):
  weights = _weights(shape)
  images = _images(shape)
  classes = np.array([[0], [3], [1]])
  settings = dict(max_evals=200, batch_size=batch_size)
  maps = partition(_probabilities, **settings)(weights, images, classes)
  _assert_close(
      maps, _by_shap(_probabilities, weights, images, classes, **settings)
  )


@pytest.mark.parametrize(
    ('max_evals', 'batch_size'),
    [(2, 10), (3, 10), (4, 10), (13, 10), (101, 7), (102, 1), (600, 500)],
)
def test_parity_at_odd_budgets_and_batches(max_evals, batch_size):
  weights = _weights((7, 5, 3))
  images = _images((7, 5, 3), 2)
  classes = np.array([[2], [0]])
  settings = dict(max_evals=max_evals, batch_size=batch_size)
  maps = partition(_logits, **settings)(weights, images, classes)
  _assert_close(maps, _by_shap(_logits, weights, images, classes, **settings))


@pytest.mark.parametrize(
    ('shape', 'batch_size'),
    # In the last one, a leaf is reached while all that is queued is expanded.
    [((4, 3, 2), 4), ((4, 3, 2), 50), ((3, 3, 3), 200)],
)
def test_parity_when_the_budget_exceeds_the_tree(shape, batch_size):
  weights = _weights(shape)
  images = _images(shape, 2)
  classes = np.array([[2, 1], [0, 1]])
  settings = dict(
      max_evals=UNLIMITED, batch_size=batch_size, masker=Masker('constant')
  )
  maps = partition(_logits, **settings)(weights, images, classes)
  expected = _by_shap(_logits, weights, images, classes, **settings)
  _assert_close(maps, expected, 1e-5)


def test_several_classes_share_one_queue():
  shape = (8, 8, 1)
  weights = _weights(shape)
  images = _images(shape)
  classes = np.array([[0, 3, 1], [2, 1, 0], [3, 2, 2]])
  settings = dict(max_evals=150, batch_size=10)
  explain = partition(_logits, **settings)
  maps = explain(weights, images, classes)
  assert maps.shape == (3, *shape, 3)
  _assert_close(maps, _by_shap(_logits, weights, images, classes, **settings))
  # Alone, a class has a queue of its own and another map.
  alone = explain(weights, images, classes[:, 0])
  assert alone.shape == (3, *shape)
  one = explain(weights, images, classes[:, :1])
  np.testing.assert_array_equal(alone, one[..., 0])
  assert np.linalg.norm(alone - maps[..., 0]) > 1e-2 * np.linalg.norm(alone)


@pytest.mark.parametrize('name', ['mean', 'constant'])
def test_parity_where_part_of_the_image_is_the_background(name):
  # Nothing changes there, so the queue has many ties of exactly zero.
  shape = (8, 8, 3)
  weights = _weights(shape)
  colour = np.array([0.0, 0.5, 1.0], np.float32)
  images = _images(shape)
  images[:, :, 3:] = colour
  classes = np.array([[0], [1], [2]])
  masker = Masker(name, mask_value=colour)
  maps = partition(_logits, masker=masker, max_evals=400)(
      weights, images, classes
  )
  assert not maps[:, :, 4:].any()
  expected = _by_shap(
      _logits, weights, images, classes, max_evals=400, batch_size=10,
      masker=masker,
  )
  _assert_close(maps, expected)


@pytest.mark.parametrize('shape', [(2, 3, 1), (1, 2, 3)])
@pytest.mark.parametrize('batch_size', [2, 50])
def test_unlimited_budget_gives_owen_values(shape, batch_size):
  weights = _weights(shape)
  images = _images(shape, 2)
  explain = partition(_logits, max_evals=UNLIMITED, batch_size=batch_size)
  maps = explain(weights, images, np.array([1, 3]))
  for image, ours, label in zip(images, maps, [1, 3], strict=True):
    owen = owen_values(functools.partial(_logits, weights), image, label)
    np.testing.assert_allclose(ours, owen, atol=1e-5)


def owen_values(score_fn, image, label):
  """Mean contribution over all orders that keep the tree's nodes together."""
  tree = partition_tree.build_tree(image.shape)
  background = np.asarray(maskers.BLUR.background(image[None]))[0]
  leaf_features = {leaf: i for i, leaf in enumerate(tree.leaves)}
  inner = np.flatnonzero(tree.inner)

  def order(node, swapped):
    if node in leaf_features:
      return [leaf_features[node]]
    first, second = tree.children[node]
    if swapped[node]:
      first, second = second, first
    return order(first, swapped) + order(second, swapped)

  values = np.zeros(image.size)
  for swaps in itertools.product([False, True], repeat=len(inner)):
    features = order(0, dict(zip(inner, swaps, strict=True)))
    steps = [background.ravel()]
    for feature in features:
      steps.append(steps[-1].copy())
      steps[-1][feature] = image.ravel()[feature]
    scores = score_fn(np.stack(steps).reshape(-1, *image.shape))
    values[features] += np.diff(np.asarray(scores, np.float64)[:, label])
  return values.reshape(image.shape) / 2 ** len(inner)


@pytest.mark.parametrize('max_evals', [2, 57, 500])
def test_completeness(max_evals):
  shape = (9, 6, 2)
  weights = _weights(shape)
  images = _images(shape, 4)
  labels = np.array([0, 1, 2, 3])
  maps = partition(_logits, max_evals=max_evals)(weights, images, labels)
  rows = np.arange(4)
  hidden = np.asarray(maskers.BLUR.background(images))
  full, base = _logits(weights, images), _logits(weights, hidden)
  gain = full[rows, labels] - base[rows, labels]
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), gain, atol=1e-5)


@pytest.mark.parametrize(
    ('count', 'images_per_step'), [(1, None), (5, None), (7, 1), (8, 3)]
)
def test_any_number_of_images(count, images_per_step):
  weights = _weights((8, 8, 1))
  images = _images((8, 8, 1), 8)
  labels = np.arange(8) % 4
  expected = partition(_logits, max_evals=100, images_per_step=8)(
      weights, images, labels
  )
  explain = partition(
      _logits, max_evals=100, images_per_step=images_per_step
  )
  maps = explain(weights, images[:count], labels[:count])
  _assert_close(maps, expected[:count], 1e-5)


def test_no_images():
  explain = functools.partial(partition(_logits), _weights((4, 4, 1)))
  empty = np.zeros((0, 4, 4, 1), np.float32)
  assert explain(empty, np.zeros(0, int)).shape == (0, 4, 4, 1)
  assert explain(empty, np.zeros((0, 2), int)).shape == (0, 4, 4, 1, 2)


def test_jax_arrays():
  weights = _weights((8, 8, 1))
  images, labels = _images((8, 8, 1)), np.array([0, 1, 2])
  explain = partition(_logits, max_evals=60)
  maps = explain(weights, jnp.asarray(images), jnp.asarray(labels))
  assert isinstance(maps, np.ndarray)
  np.testing.assert_array_equal(maps, explain(weights, images, labels))


@pytest.mark.parametrize('max_images', [1, 20])
def test_calls_of_the_model_are_bounded(monkeypatch, max_images):
  monkeypatch.setitem(CALL_IMAGES, 'cpu', max_images)
  weights = _weights((8, 8, 1))
  sizes = []

  def score_fn(weights, images):
    sizes.append(len(images))
    return _logits(weights, images)

  images, labels = _images((8, 8, 1)), np.array([0, 1, 2])
  settings = dict(max_evals=200, images_per_step=3, batch_size=20)
  maps = partition(score_fn, **settings)(weights, images, labels)
  # The masks are divided, the images of a step are not.
  assert max(sizes) == max(3, max_images // 3 * 3)
  monkeypatch.undo()
  expected = partition(_logits, **settings)(weights, images, labels)
  _assert_close(maps, expected, 1e-5)


def test_compiles_once():
  weights = _weights((8, 8, 1))
  traces = []

  def score_fn(weights, images):
    traces.append(images.shape)
    return _logits(weights, images)

  explain = partition(score_fn, max_evals=60)
  images = _images((8, 8, 1), 4)
  explain(weights, images, np.zeros(4, int))
  first = len(traces)
  explain(weights, images[:3], np.ones(3, int))
  assert len(traces) == first


@pytest.mark.parametrize('name', maskers.INPAINT_MASKERS)
def test_inpainting_is_for_shap(name):
  with pytest.raises(InputError, match='shap_partition') as error:
    partition(_logits, masker=Masker(name))
  assert error.value.argument == 'masker'


@pytest.mark.parametrize(
    'settings',
    [
        {'max_evals': 1},
        {'batch_size': 0},
        {'images_per_step': 0},
    ],
)
def test_impossible_settings(settings):
  ((name, value),) = settings.items()
  with pytest.raises(InputError, match=f'{name} is {value}') as error:
    partition(_logits, **settings)
  assert str(error.value).endswith(f'Change it with {name}=N.')


@pytest.mark.parametrize(
    ('shape', 'labels', 'message'),
    [
        ((4, 4, 1), [0, 1], 'shape'),
        ((2, 4, 4, 1), [0], '2 images and 1 labels'),
        ((2, 4, 4, 1), [0.0, 1.0], 'float'),
        ((2, 4, 4, 1), [[[0]], [[1]]], 'shape'),
        ((2, 4, 4, 1), [0, 4], 'from 0 to 4'),
        ((2, 4, 4, 1), [-1, 0], 'from -1 to 0'),
    ],
)
def test_impossible_inputs(shape, labels, message):
  explain = partition(_logits, max_evals=10)
  weights = _weights((4, 4, 1))
  with pytest.raises(InputError, match=message):
    explain(weights, np.zeros(shape, np.float32), np.array(labels))


def test_scores_must_be_a_matrix():
  explain = partition(lambda weights, images: images.mean(axis=(1, 2, 3)))
  with pytest.raises(InputError, match=r'\[B, K\]'):
    explain(None, np.zeros((2, 4, 4, 1), np.float32), np.zeros(2, int))
