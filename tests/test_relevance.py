"""What relevance does in training, by hand."""

from impactx_jax import relevance
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def rows(*values):
  return jnp.array(values, jnp.float32)


@pytest.mark.parametrize(('given', 'expected'), [
    ((2, -1, 0.5), (1.5, 0.75, 1.125)), ((0, 0, 0), (1, 1, 1)),
    ((-4, 0, 4), (0.5, 1, 1.5)),
])
def test_attention_by_hand(given, expected):
  np.testing.assert_allclose(relevance.attention(rows(given)), [expected])


def test_each_example_has_its_own_largest():
  both = relevance.attention(rows((2, -1, 0.5), (20, 0, -10)))
  np.testing.assert_allclose(both, [[1.5, 0.75, 1.125], [1.5, 1, 0.75]])
  # And it is what it is: nothing is learned through it.
  slopes = jax.grad(lambda r: relevance.attention(r).sum())(rows((2, -1, 0.5)))
  assert not slopes.any()


@pytest.mark.parametrize(('score', 'left'), [
    ((9, 1, 2, 3, 4), (0, 2, 3, 4, 5)), ((0, 1, 2, 3, 9), (1, 2, 3, 4, 0)),
])
@pytest.mark.parametrize('share', [0.2, 0.25, 0.39])
def test_the_most_relevant_unit_is_off_and_the_mean_stays(score, left, share):
  found = relevance.guided_dropout(rows((1, 2, 3, 4, 5)), rows(score), share)
  np.testing.assert_allclose(found, rows(left) * 15 / sum(left), rtol=1e-6)


def test_dropout_of_what_is_all_there_is_leaves_nothing():
  found = relevance.guided_dropout(rows((3, 0, 0)), rows((1, 0, 0)), 0.3)
  np.testing.assert_array_equal(found, rows((0, 0, 0)))


def truth_loss(w, x, truth, **options):
  return relevance.ground_truth_loss(
      (w * x)[None], rows(truth), **options
  ).sum()


@pytest.mark.parametrize(('w', 'loss', 'slopes', 'detached'), [
    ((1, 0.5), 0.25, (-0.5, 1), (0, 1)),
    ((0.5, 1), 1, (0, 0), (0, 2)),  # The largest is not made smaller.
])
def test_ground_truth_by_hand(w, loss, slopes, detached):
  arguments = rows(*w), jnp.ones(2), (1, 0)
  assert truth_loss(*arguments) == pytest.approx(loss)
  np.testing.assert_allclose(jax.grad(truth_loss)(*arguments), slopes)
  np.testing.assert_allclose(
      jax.grad(truth_loss)(*arguments, detached=True), detached
  )
