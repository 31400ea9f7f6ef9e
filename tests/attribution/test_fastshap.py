"""FastSHAP's objective: its minimum are the Shapley values, by hand."""

import itertools
import math

from attribution.explainers import fastshap
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest


@pytest.mark.parametrize('players', [2, 4, 9])
def test_sets_are_drawn_from_shapleys_kernel(players):
  drawn = np.asarray(fastshap.subsets(jax.random.key(0), 40000, players))
  np.testing.assert_array_equal(drawn[:20000], ~drawn[20000:])
  sizes = drawn.sum(axis=1)
  weight = np.array([1 / (s * (players - s)) for s in range(1, players)])
  found = np.bincount(sizes, minlength=players + 1)[1:players] / len(sizes)
  np.testing.assert_allclose(found, weight / weight.sum(), atol=0.01)
  # Within a size each player is as likely.
  np.testing.assert_allclose(
      drawn.mean(axis=0), sizes.mean() / players, atol=0.01
  )


def shapley(value, players):
  """Each player's value, over all sets."""
  found = np.zeros(players)
  for i in range(players):
    others = [j for j in range(players) if j != i]
    for count in range(players):
      for chosen in itertools.combinations(others, count):
        weight = math.factorial(count) * math.factorial(players - count - 1)
        found[i] += weight / math.factorial(players) * (
            value({*chosen, i}) - value(set(chosen))
        )
  return found


def test_what_it_is_least_for_are_the_shapley_values():
  images = jnp.asarray(
      np.random.default_rng(0).uniform(0.2, 1, (2, 4, 6, 1)), jnp.float32
  )
  backgrounds = jnp.full_like(images, 0.1)

  def score(x):  # Not additive in the cells of 2 x 3 pixels.
    cells = x.reshape(len(x), 2, 2, 2, 3).mean(axis=(2, 4)).reshape(-1, 4)
    return cells @ jnp.array([1.0, -2.0, 0.5, 0.0]) + (
        3 * cells[:, 0] * cells[:, 3] - cells[:, 1] * cells[:, 2] ** 2
    )

  def value(i, chosen):
    shown = np.array([k in chosen for k in range(4)]).reshape(2, 2)
    shown = shown.repeat(2, axis=0).repeat(3, axis=1)[..., None]
    return float(score(jnp.where(shown, images[i], backgrounds[i])[None])[0])

  expected = [shapley(lambda s, i=i: value(i, s), 4) for i in range(2)]

  @jax.jit
  def gradient(cells, key):
    return jax.grad(lambda c: fastshap.loss(
        c, images, backgrounds, score, key, samples=64
    ).sum())(cells)

  cells = jnp.zeros((2, 2, 2))
  optimizer = optax.adam(optax.exponential_decay(0.05, 200, 0.5))
  state = optimizer.init(cells)
  for step in range(1500):
    updates, state = optimizer.update(
        gradient(cells, jax.random.key(step)), state
    )
    cells = optax.apply_updates(cells, updates)
  ends = [
      np.array([value(i, s) for i in range(2)]) for s in ({0, 1, 2, 3}, set())
  ]
  found = fastshap.complete(cells, *ends)
  np.testing.assert_allclose(found.reshape(2, 4), expected, atol=0.01)
  np.testing.assert_allclose(found.sum((1, 2)), ends[0] - ends[1], atol=1e-5)
