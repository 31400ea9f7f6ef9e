"""Explainers that hide regions, against values by hand and by brute force."""

import itertools
import math

import attribution
from attribution.errors import InputError
from attribution.explainers import masking
from attribution.explainers import regions
from attribution.explainers import shapley
import jax.numpy as jnp
import numpy as np
import pytest

RNG = np.random.default_rng(0)
IMAGES = RNG.random((3, 8, 6, 2), np.float32)
LABELS = np.array([0, 2, 1])
WEIGHTS = RNG.normal(size=(96, 3)).astype(np.float32)
HIDDEN = 0.25


def linear(images):
  return images.reshape(len(images), -1) @ WEIGHTS


def curved(images):
  """Regions matter together, not one by one."""
  cells = images.reshape(len(images), 2, 4, 2, 3, 2).mean(axis=(2, 4, 5))
  a, b, c, d = cells.reshape(len(images), 4).T
  return jnp.stack([a * b + c, jnp.tanh(3 * a * d) + b, a * b * c * d], axis=1)


def explain(score_fn, name, images=IMAGES, labels=LABELS, **options):
  options = {'masker': 'constant', 'mask_value': HIDDEN} | options
  return attribution.explain(
      score_fn, images, labels, explainer=name, **options
  )


def cells_of(maps, grid):
  """[N, H, W, C] -> the sums over a grid that divides the sides."""
  count, height, width, channels = maps.shape
  return maps.reshape(
      count, grid, height // grid, grid, width // grid, channels
  ).sum(axis=(2, 4, 5)).reshape(count, -1)


QUARTERS = np.arange(8)[:, None] // 4 * 2 + np.arange(6) // 3


def brute_force(score_fn, image, label, regions=QUARTERS):
  """Shapley values of regions, by their definition."""
  count = regions.max() + 1

  def worth(players):
    shown = np.isin(regions, players)[..., None]
    return float(score_fn(np.where(shown, image, HIDDEN)[None])[0, label])

  values = []
  for player in range(count):
    others = [p for p in range(count) if p != player]
    values.append(sum(
        (worth([*players, player]) - worth([*players]))
        / (count * math.comb(count - 1, n))
        for n in range(count) for players in itertools.combinations(others, n)
    ))
  return values


EXPECTED = [
    brute_force(curved, x, y) for x, y in zip(IMAGES, LABELS, strict=True)
]


def test_all_sets_give_shapleys_values_by_brute_force():
  maps = explain(curved, 'kernel_shap', grid=2, max_evals=16)
  np.testing.assert_allclose(cells_of(maps, 2), EXPECTED, atol=1e-6)
  # Within a cell all pixels and channels share alike.
  np.testing.assert_allclose(
      maps[:, :4, :3], np.broadcast_to(maps[:, :1, :1, :1], (3, 4, 3, 2)),
      rtol=1e-6,
  )


def test_orders_come_near_to_shapleys_values():
  many = explain(curved, 'permutation_shap', grid=2, max_evals=4000)
  np.testing.assert_allclose(cells_of(many, 2), EXPECTED, atol=0.01)


@pytest.mark.parametrize('name', ['kernel_shap', 'permutation_shap'])
def test_any_number_of_draws_is_complete(name):
  few, many = (
      explain(curved, name, grid=2, max_evals=n, seed=3) for n in (14, 4000)
  )
  complete = [
      score[label] - hidden[label] for score, hidden, label in zip(
          curved(IMAGES), curved(np.full_like(IMAGES, HIDDEN)), LABELS,
          strict=True,
      )
  ]
  for maps in (few, many):
    np.testing.assert_allclose(
        maps.sum(axis=(1, 2, 3)), complete, rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize('grid', [3, 4, 5])
def test_the_least_budget_of_kernel_shap_tells_all_cells_apart(grid):
  players = grid**2
  maps = explain(linear, 'kernel_shap', grid=grid, max_evals=2 * players + 2)
  worth = (IMAGES - HIDDEN) * WEIGHTS.T[LABELS].reshape(IMAGES.shape)
  cells = regions.cells(8, 6, grid)[0].ravel()
  for found, expected in zip(maps, worth, strict=True):
    sums = [
        np.bincount(cells, x.sum(axis=-1).ravel(), players)
        for x in (found, expected)
    ]
    np.testing.assert_allclose(*sums, atol=1e-3)


def test_least_squares_of_draws_come_near_to_shapleys_values():
  maps = explain(curved, 'kernel_shap', grid=4, max_evals=3000)
  exact = explain(curved, 'kernel_shap', grid=4, max_evals=2**16)
  spread = np.abs(exact).sum(axis=(1, 2, 3))
  assert (np.abs(maps - exact).sum(axis=(1, 2, 3)) < 0.1 * spread).all()


@pytest.mark.parametrize(('name', 'options'), [
    ('occlusion', {}), ('kernel_shap', {'max_evals': 200}),
    ('kernel_shap', {'max_evals': 16}), ('permutation_shap', {'max_evals': 8}),
])
def test_of_a_linear_model_each_cell_is_worth_what_it_adds(name, options):
  maps = explain(linear, name, grid=2, **options)
  worth = (IMAGES - HIDDEN) * WEIGHTS.T[LABELS].reshape(IMAGES.shape)
  np.testing.assert_allclose(
      cells_of(maps, 2), cells_of(worth, 2), rtol=1e-3, atol=1e-4
  )


def test_occlusion_by_hand():
  maps = explain(curved, 'occlusion', grid=2)
  for image, label, found in zip(
      IMAGES, LABELS, cells_of(maps, 2), strict=True
  ):
    for cell in range(4):
      hidden = image.copy()
      row, column = divmod(cell, 2)
      hidden[4 * row:4 * row + 4, 3 * column:3 * column + 3] = HIDDEN
      both = curved(np.stack([image, hidden]))[:, label]
      assert found[cell] == pytest.approx(float(both[0] - both[1]), abs=1e-6)


def test_rise_finds_the_corner_that_matters():
  def corner(images):
    mean = images[:, :4, :3].mean(axis=(1, 2, 3))
    return jnp.stack([mean, -mean, 0 * mean], axis=1)

  maps = explain(corner, 'rise', np.ones_like(IMAGES), max_evals=2000, grid=4)
  inside, outside = maps[:, :3, :2], maps[:, 5:, 4:]
  scale = np.abs(inside[0]).mean()
  assert (inside[0] > 0).all() and (inside[2] < 0).all()
  np.testing.assert_allclose(maps[1], 0, atol=1e-6)
  assert np.abs(outside).max() < 0.2 * scale


def test_a_map_does_not_depend_on_what_is_explained_beside_it():
  for name in ('rise', 'kernel_shap', 'permutation_shap'):
    options = {'grid': 3, 'max_evals': 60}
    together = explain(curved, name, **options)
    alone = explain(curved, name, IMAGES[1:2], LABELS[1:2], **options)
    np.testing.assert_allclose(alone[0], together[1], atol=1e-6)
    several = explain(
        curved, name, labels=np.stack([LABELS, LABELS[::-1]], 1), **options
    )
    np.testing.assert_allclose(several[..., 0], together, atol=1e-6)
    other = explain(curved, name, seed=1, **options)
    assert np.abs(other - together).max() > 1e-4


def test_cells_of_sides_that_they_do_not_divide():
  found = regions.cells(5, 7, 3)
  assert found.shape == (1, 5, 7)
  assert found[0, :, 0].tolist() == [0, 0, 3, 3, 6]
  assert found[0, 0].tolist() == [0, 0, 0, 1, 1, 2, 2]
  values = jnp.arange(9.0).reshape(1, 9, 1)
  maps = regions.spread(values, found, 2)
  assert maps.shape == (1, 5, 7, 2, 1)
  for cell in range(9):
    assert maps[0, found[0] == cell].sum() == pytest.approx(cell, rel=1e-5)


@pytest.mark.parametrize(('name', 'options', 'evaluations'), [
    ('occlusion', {'grid': 4}, 17), ('rise', {'max_evals': 33}, 33),
    ('kernel_shap', {'grid': 2, 'max_evals': 16}, 16),
    ('kernel_shap', {'grid': 4, 'max_evals': 301}, 300),
    ('permutation_shap', {'grid': 2, 'max_evals': 21}, 20),
])
def test_a_budget_is_of_scored_images(monkeypatch, name, options, evaluations):
  scored = []
  original = masking.scorer

  def counting(*arguments):
    scorer = original(*arguments)

    def call(expand, drawn):
      found = scorer(expand, drawn)
      scored.append(found.shape[1])
      return found

    return call

  monkeypatch.setattr(masking, 'scorer', counting)
  explain(lambda images: linear(images), name, **options)
  assert {sum(scored)} == {evaluations}
  explainer = attribution.Explainer(linear, explainer=name, **options)
  assert explainer.evaluations == evaluations


@pytest.mark.parametrize(('name', 'options', 'said'), [
    ('permutation_shap', {'grid': 4, 'max_evals': 31}, 'needs 32'),
    ('kernel_shap', {'grid': 4, 'max_evals': 17}, 'needs 34 .* 16 regions'),
    ('kernel_shap', {'grid': (4, 4)}, r'grid is \(4, 4\); .* whole number'),
    ('permutation_shap', {'max_evals': '100'}, "'100'; .* whole number"),
    ('rise', {'max_evals': 2.5}, 'max_evals is 2.5; .* whole number'),
    ('occlusion', {'grid': 0}, 'grid is 0'),
    ('rise', {'max_evals': 1}, 'max_evals is 1'),
    ('rise', {'masker': 'inpaint_ns'}, 'shap_partition alone'),
])
def test_what_cannot_be_drawn_is_refused(name, options, said):
  with pytest.raises(InputError, match=said):
    explain(linear, name, **options)


def test_too_many_cells_for_all_sets():
  with pytest.raises(InputError, match='25 regions have 33,554,432 sets'):
    shapley.exact_shap(linear, grid=5)


@pytest.mark.parametrize(('players', 'count', 'whole'), [
    (2, 2, [1]), (3, 6, [1]), (5, 10, []), (6, 20, []), (7, 60, [1]),
    (16, 300, [1]), (16, 1500, [1, 2]), (16, 4000, [1, 2]), (50, 200, []),
    (50, 500, [1]), (196, 500, []),
])
def test_kernel_shap_takes_small_and_large_sets_whole(players, count, whole):
  sets, weights = shapley.kernel_sets(players, count, seed=0)
  assert sets.shape == (count, players) and weights.shape == (count,)
  np.testing.assert_array_equal(sets[count // 2:], ~sets[:count // 2])
  assert len(np.unique(sets, axis=0)) == count  # None twice.
  sizes = sets.sum(axis=1)
  assert 0 < sizes.min() <= sizes.max() < players
  for size in np.unique(sizes):  # All sets of a size weigh as the kernel says.
    expected = (players - 1) / (size * (players - size))
    assert weights[sizes == size].sum() == pytest.approx(expected, rel=1e-4)
    assert ((sizes == size).sum() == math.comb(players, size)) == (
        size in whole or players - size in whole
    )


def test_all_sets_of_kernel_shap_give_the_exact_values():
  # Of five regions all 30 sets but the ends, against brute force.
  sets, weights = shapley.kernel_sets(5, 30, seed=0)
  assert len(np.unique(sets, axis=0)) == 30
  worth = RNG.normal(size=32)

  def score(shown):
    return worth[(shown * 2 ** np.arange(5)).sum(axis=-1).astype(int)]

  change = score(np.ones(5)) - score(np.zeros(5))
  inverse = np.linalg.inv(sets.T @ (weights[:, None] * sets))
  fitted = inverse @ (sets.T @ (weights * (score(sets) - score(np.zeros(5)))))
  share = inverse.sum(axis=1) / inverse.sum()
  fitted += share * (change - fitted.sum())
  expected = [
      sum(
          (score(np.isin(np.arange(5), [*others, i]))
           - score(np.isin(np.arange(5), others)))
          / (5 * math.comb(4, n))
          for n in range(5) for others in itertools.combinations(
              [j for j in range(5) if j != i], n
          )
      ) for i in range(5)
  ]
  np.testing.assert_allclose(fitted, expected, atol=1e-5)
