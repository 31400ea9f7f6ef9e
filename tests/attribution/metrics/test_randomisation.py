"""Variables in another order."""

from attribution.metrics import randomisation
import jax
import jax.numpy as jnp
import numpy as np

NUMBERS = np.arange(12, dtype=np.float32).reshape(3, 4)


def shuffled(tree, **options):
  return randomisation.shuffled(tree, np.random.default_rng(0), **options)


def test_the_numbers_stay_and_their_order_does_not():
  found = shuffled([NUMBERS, {'b': jnp.asarray(NUMBERS)}])
  for leaf in jax.tree.leaves(found):
    assert leaf.shape == (3, 4)
    np.testing.assert_array_equal(np.sort(leaf, None), np.sort(NUMBERS, None))
    assert (leaf != NUMBERS).any()


def test_of_flax_the_statistics_stay():
  tree = {'params': {'kernel': NUMBERS}, 'batch_stats': {'mean': NUMBERS}}
  found = shuffled(tree)
  assert (found['params']['kernel'] != NUMBERS).any()
  np.testing.assert_array_equal(found['batch_stats']['mean'], NUMBERS)


def test_what_is_no_float_stays():
  tree = {'step': np.arange(9), 'key': jax.random.key(0), 'w': NUMBERS}
  found = shuffled(tree)
  np.testing.assert_array_equal(found['step'], np.arange(9))
  assert found['key'] == tree['key'] and (found['w'] != NUMBERS).any()


def test_one_may_choose_by_the_keys():
  found = shuffled(
      {'a': [NUMBERS, NUMBERS]}, chosen=lambda keys: keys == ('a', 1)
  )
  np.testing.assert_array_equal(found['a'][0], NUMBERS)
  assert (found['a'][1] != NUMBERS).any()
