"""The partition tree and its masks against shap's Image masker."""

import itertools

from attribution.explainers import partition_tree
import jax.numpy as jnp
import numpy as np
import pytest
import shap

TREE_SHAPES = [
    (8, 8, 1), (7, 5, 3), (12, 12, 3), (5, 5, 1), (1, 9, 2), (13, 3, 4),
    (3, 1, 1), (1, 1, 2),
]


def _box(tree, node):
  mask = np.zeros(tree.shape, bool)
  mask[tuple(itertools.starmap(slice, tree.boxes[node].T))] = True
  return mask


@pytest.mark.parametrize('shape', TREE_SHAPES)
def test_tree_is_that_of_the_image_masker(shape):
  tree = partition_tree.build_tree(shape)
  clustering = shap.maskers.Image(np.zeros(shape), shape).clustering
  masks = np.asarray(shap.utils.make_masks(clustering).todense())
  features = len(tree.leaves)
  assert len(tree.sizes) == 2 * features - 1
  pairs = [(0, 2 * features - 2)]
  for node, theirs in pairs:  # Grows as it is read.
    np.testing.assert_array_equal(_box(tree, node).ravel(), masks[theirs])
    assert tree.sizes[node] == masks[theirs].sum()
    if theirs < features:
      assert tree.leaves[theirs] == node
    else:
      children = clustering[theirs - features, :2].astype(int)
      pairs += zip(tree.children[node], children, strict=True)
      assert (tree.parents[tree.children[node]] == node).all()
  assert len(pairs) == len(tree.sizes)


def test_tree_of_a_large_image_is_small():
  tree = partition_tree.build_tree((96, 96, 3))
  arrays = [getattr(tree, name) for name in vars(tree) if name != 'tables']
  total = sum(np.asarray(x).nbytes for x in (*arrays, *tree.tables))
  assert total < 200 * len(tree.leaves)


@pytest.mark.parametrize('shape', TREE_SHAPES)
def test_masks_show_the_siblings_of_the_path(shape):
  tree = partition_tree.build_tree(shape)
  rng = np.random.default_rng(0)
  nodes, contexts = [0], [partition_tree.SHOW_ALL]
  expected = [np.ones(shape, bool)]
  for _ in range(30):
    node, context = 0, 0
    mask = np.zeros(shape, bool)
    while True:
      nodes.append(node)
      contexts.append(context)
      expected.append(mask.copy())
      if not tree.inner[node]:
        break
      entries, entry_contexts = partition_tree.child_entries(
          tree, np.array(node), np.array(context)
      )
      entry = rng.integers(4)
      child = entry % 2
      if entry >= 2:
        mask |= _box(tree, tree.children[node, 1 - child])
      assert entries[entry] == tree.children[node, child]
      node, context = entries[entry], entry_contexts[entry]
  rows, columns = partition_tree.visibility_keys(
      tree, jnp.asarray(nodes), jnp.asarray(contexts)
  )
  visible = np.asarray(rows[:, :, None] + columns[:, None, :] > 0)
  np.testing.assert_array_equal(visible.reshape(-1, *shape), expected)
