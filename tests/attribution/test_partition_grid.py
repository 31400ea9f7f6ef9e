"""Tests that `partition_grid` gives the Owen values of a grid's cells."""

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers.batched import CALL_IMAGES
from attribution.explainers.partition import partition
from attribution.explainers.partition_grid import partition_grid
from attribution.explainers.shap_partition import shap_partition
from attribution.maskers import Masker
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def _weights(shape, classes=3, seed=0):
  rng = np.random.default_rng(seed)
  size = int(np.prod(shape))
  first = (3 * rng.normal(size=(size, 12)) / np.sqrt(size)).astype(np.float32)
  return first, rng.normal(size=(12, classes)).astype(np.float32)


def _network(weights, images):
  first, second = weights
  return jnp.tanh(images.reshape(len(images), -1) @ first) @ second


def _images(shape, count=3, seed=1):
  return np.random.default_rng(seed).random((count, *shape), dtype=np.float32)


def _halves(cells):
  """The split of a block of cells, given as (row slice, column slice)."""
  rows, columns = cells
  height, width = rows.stop - rows.start, columns.stop - columns.start
  if height == width == 1:
    return None
  if height >= width:
    middle = (rows.start + rows.stop) // 2
    return (
        (slice(rows.start, middle), columns),
        (slice(middle, rows.stop), columns),
    )
  middle = (columns.start + columns.stop) // 2
  return (
      (rows, slice(columns.start, middle)),
      (rows, slice(middle, columns.stop)),
  )


def _owen_values(score, grid):
  """Brute force: the mean over all orders that keep the tree's nodes together.

  Args:
    score: Takes bool [n, grid, grid], which cells are shown; gives [n].
    grid: Cells along a side, a power of two.
  """

  def orders(cells):
    halves = _halves(cells)
    if halves is None:
      return [[(cells[0].start, cells[1].start)]]
    return [
        first + second
        for one, other in (halves, halves[::-1])
        for first in orders(one)
        for second in orders(other)
    ]

  values = np.zeros((grid, grid))
  all_orders = orders((slice(0, grid), slice(0, grid)))
  for order in all_orders:
    shown = np.zeros((len(order) + 1, grid, grid), bool)
    for step, cell in enumerate(order, start=1):
      shown[step] = shown[step - 1]
      shown[step][cell] = True
    gains = np.diff(score(shown))
    for cell, gain in zip(order, gains, strict=True):
      values[cell] += gain
  return values / len(all_orders)


@pytest.mark.parametrize('shape', [(2, 2, 1), (8, 8, 3)])
def test_owen_values_by_brute_force(shape):
  weights = _weights(shape)
  image, label, grid = _images(shape, 1)[0], 2, 2
  hidden = np.full(shape, 0.3, np.float32)
  size = shape[0] // grid

  def score(shown):
    shown = shown.repeat(size, axis=1).repeat(size, axis=2)[..., None]
    scores = _network(weights, np.where(shown, image, hidden))
    return np.asarray(scores, np.float64)[:, label]

  masker = Masker('constant', mask_value=0.3)
  explain = partition_grid(_network, masker=masker, grid=grid)
  ours = explain(weights, image[None], np.array([label]))[0]
  cells = _owen_values(score, grid)
  assert np.abs(cells).max() > 1e-3
  spread = cells.repeat(size, axis=0).repeat(size, axis=1) / (size**2)
  expected = np.broadcast_to(spread[..., None] / shape[2], shape)
  np.testing.assert_allclose(ours, expected, atol=1e-6)


@pytest.mark.parametrize('shape', [(4, 4, 1), (5, 3, 1), (3, 7, 1)])
def test_single_pixels_are_the_whole_tree(shape):
  weights = _weights(shape)
  images, classes = _images(shape), np.array([[0, 2], [1, 0], [2, 2]])
  settings = dict(masker=Masker('constant', mask_value=0.5))
  maps = partition_grid(_network, grid=8, **settings)(weights, images, classes)
  assert maps.shape == (3, *shape, 2)
  for factory in (partition, shap_partition):
    whole = factory(_network, max_evals=10**6, **settings)
    np.testing.assert_allclose(
        maps, whole(weights, images, classes), atol=1e-6
    )


@pytest.mark.parametrize('grid', [4, 8])
def test_channels_of_a_pixel_share_its_value(grid):
  shape = (4, 4, 3)
  weights = _weights(shape)
  images, labels = _images(shape), np.array([0, 1, 2])
  maps = partition_grid(_network, grid=grid)(weights, images, labels)
  np.testing.assert_allclose(maps[..., :1].repeat(3, axis=-1), maps)
  assert np.abs(np.diff(maps, axis=2)).max() > 1e-3


@pytest.mark.parametrize(
    ('shape', 'grid', 'cells'),
    [
        ((16, 16, 3), 8, 64),
        ((16, 16, 1), 1, 1),
        ((16, 16, 1), 4, 16),
        ((6, 9, 1), 2, 4),
        ((16, 4, 1), 4, 16),
    ],
)
def test_number_of_cells_and_evaluations(shape, grid, cells):
  weights = _weights(shape)
  seen = []

  def score_fn(weights, images):
    jax.debug.callback(lambda x: seen.append(len(x)), images)
    return _network(weights, images)

  images = _images(shape, 1)
  maps = partition_grid(score_fn, grid=grid)(weights, images, np.array([1]))
  jax.effects_barrier()
  assert len(np.unique(np.round(maps, 7))) == cells
  evaluations = 2 * (grid**4 - 1) // 3 + 2
  # The masks are padded to whole calls of the model.
  assert evaluations <= sum(seen) < evaluations + max(seen)


def test_completeness():
  shape = (16, 16, 3)
  weights = _weights(shape)
  images, labels = _images(shape, 4), np.array([0, 1, 2, 1])
  maps = partition_grid(_network, grid=4)(weights, images, labels)
  rows = np.arange(4)
  hidden = np.asarray(maskers.BLUR.background(images))
  full, base = _network(weights, images), _network(weights, hidden)
  gain = full[rows, labels] - base[rows, labels]
  np.testing.assert_allclose(maps.sum(axis=(1, 2, 3)), gain, atol=1e-5)


@pytest.mark.parametrize('images_per_step', [1, 3, None])
def test_a_map_depends_on_its_image_only(images_per_step, monkeypatch):
  monkeypatch.setitem(CALL_IMAGES, 'cpu', 50)
  shape = (8, 8, 1)
  weights = _weights(shape)
  images = _images(shape, 7)
  labels = np.arange(7) % 3
  explain = partition_grid(
      _network, grid=4, images_per_step=images_per_step
  )
  maps = explain(weights, images, labels)
  assert maps.dtype == np.float32
  order = np.random.default_rng(0).permutation(7)
  moved = explain(weights, images[order], labels[order])
  np.testing.assert_allclose(moved, maps[order], atol=1e-7)
  single = np.concatenate(
      [
          explain(weights, images[i : i + 1], labels[i : i + 1])
          for i in range(7)
      ]
  )
  np.testing.assert_allclose(single, maps, atol=1e-7)


def test_symmetric_scores_give_symmetric_maps():
  # Every priority is tied, which a queue would have to break somehow.
  def score_fn(weights, images):
    del weights
    total = jnp.tanh(images.mean(axis=(1, 2, 3)))
    return jnp.stack([total, -total], axis=1)

  image = np.ones((1, 8, 8, 1), np.float32)
  maps = partition_grid(score_fn, masker=Masker('constant'), grid=4)(
      None, image, np.array([0])
  )
  np.testing.assert_allclose(maps, np.tanh(1) / 64, rtol=1e-5)


@pytest.mark.parametrize('grid', [0, -2, 3, 12])
def test_the_grid_is_a_power_of_two(grid):
  with pytest.raises(InputError, match=f'{grid} cells'):
    partition_grid(_network, grid=grid)


def test_inpainting_is_for_shap():
  with pytest.raises(InputError, match='shap_partition'):
    partition_grid(_network, masker=Masker('inpaint_telea'))
