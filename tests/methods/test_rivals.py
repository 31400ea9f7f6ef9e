"""What A could become instead: wider, trained further, or two of it."""

from attribution.errors import InputError
from flax import linen as nn
from impactx_jax import methods
from impactx_jax import models
from impactx_jax.methods import baseline_matched
import jax
from jax import numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import PROBLEM
from tests.methods.methods_fixtures import SHAPE
from tests.methods.methods_fixtures import Trainer
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method
from tests.methods.methods_fixtures import predict


def count(tree):
  return sum(leaf.size for leaf in jax.tree.leaves(tree))


def shapes(name, num_classes, config):
  """The shapes of what a method trains, without computing them."""
  problem = methods.Problem(num_classes, SHAPE)
  classifier = None
  if not methods.METHODS[name].from_scratch:
    classifier = methods.create('baseline', config, problem).shapes()
  return methods.create(name, config, problem).shapes(classifier)['params']


@pytest.mark.parametrize('changes', [
    {}, {'lep_units': 512}, {'m_output': 'features', 'classifier_hidden': 64},
])
@pytest.mark.parametrize('num_classes', [4, 100])
def test_matched_baseline_is_as_large_as_m_lep_and_c(num_classes, changes):
  config = make_config('baseline_matched', **changes)
  baseline = count(shapes('baseline', num_classes, config))
  branch = shapes('impactx', num_classes, config)
  wanted = baseline + count(branch['lep']) + count(branch['classifier'])
  wanted += count(branch.get('classifier_hidden', {}))
  found = count(shapes('baseline_matched', num_classes, config))
  assert found == pytest.approx(wanted, rel=0.02)
  assert found > 1.02 * baseline


def test_matched_baseline_needs_no_decoder():
  config = make_config('baseline_matched', decoder_start=7)  # 32 is no 7 * 2^n.
  wide = shapes('baseline_matched', 10, config)
  config.method.decoder_start = 8
  assert wide == shapes('baseline_matched', 10, config)


def test_matched_baseline_is_the_backbone_with_wider_layers():
  config = make_config('baseline_matched', lep_units=512)
  wide = shapes('baseline_matched', 10, config)
  plain = shapes('baseline', 10, config)
  assert jax.tree.structure(wide) == jax.tree.structure(plain)
  for ours, theirs in zip(
      jax.tree.leaves(wide['trunk']), jax.tree.leaves(plain['trunk']),
      strict=True,
  ):
    assert ours.shape[-1] > theirs.shape[-1]
  # The config's own width is what it starts from, and stays.
  assert config.model.width == 1.0


FIXED = """
from flax import linen as nn
from impactx_jax.models import Backbone
from impactx_jax.models import Scores

class Trunk(nn.Module):
  @nn.compact
  def __call__(self, images, train=False):
    return nn.Conv(4, (3, 3))(images).mean(axis=(1, 2))

class Head(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, features, train=False):
    return Scores(nn.Dense(self.num_classes)(features), features)

BACKBONE = Backbone(
    trunk=lambda model: Trunk(), head=lambda model, classes: Head(classes)
)
"""


@pytest.mark.parametrize('name', ['baseline_matched', 'baseline_matched_flops'])
def test_a_backbone_that_cannot_grow_cannot_be_matched(name, tmp_path):
  (tmp_path / 'fixed.py').write_text(FIXED)
  config = make_config(name)
  config.model.name = str(tmp_path / 'fixed.py')
  with pytest.raises(InputError) as error:
    methods.create(name, config, PROBLEM)
  for part in ('fixed.py', 'beyond 0.01', 'baseline_matched'):
    assert part in str(error.value)


def test_a_size_that_ends_somewhere_is_no_endless_search():
  config = make_config('baseline').model
  with pytest.raises(InputError, match='beyond 8, so'):
    models.widened(config, 100, lambda model: min(model.width, 8))
  found = models.widened(config, 5.3, lambda model: model.width)
  assert found.width == pytest.approx(5.3, rel=1e-3)


# --- FLOPs --------------------------------------------------------------------


def test_flops_are_counted_as_by_hand():
  """A dense layer multiplies and adds each weight once an image."""
  weights = jnp.zeros((48, 10))
  network = baseline_matched.Network(
      lambda key: {'params': weights},
      lambda variables, images: images.reshape(-1, 48) @ variables['params'],
  )
  images = jnp.zeros((1, 4, 4, 3))
  assert baseline_matched.flops(network, images) == 2 * 48 * 10

  def less(variables, images):
    return images[:, 0, 0, :1] * variables['params'][:1]

  either = network._replace(apply=lambda variables, images: jax.lax.cond(
      images.sum() > 0, network.apply, less, variables, images
  ))
  assert baseline_matched.flops(either, images) == 2 * 48 * 10
  assert baseline_matched.parameters(network, images) == 48 * 10


@pytest.mark.parametrize(('groups', 'flops'), [
    (1, 2 * 64 * 8 * 9 * 4), (4, 2 * 64 * 8 * 9),
])
def test_flops_of_a_convolution_by_hand(groups, flops):
  """At each of 8x8 places, 8 filters of 3x3 places and 4 / groups channels."""
  layer = nn.Conv(8, (3, 3), feature_group_count=groups)
  images = jnp.zeros((1, 8, 8, 4))
  network = baseline_matched.Network(
      lambda key: layer.init(key, images), layer.apply
  )
  assert baseline_matched.flops(network, images) == flops


def flops_of(method, classifier):
  """Of a forward pass without D, by the cut after the last convolutions."""
  features, scores = method.layers
  network = baseline_matched.Network(
      lambda key: init(method, classifier),
      lambda variables, images: scores(variables, features(variables, images)),
  )
  return baseline_matched.flops(network, jnp.zeros((1, *SHAPE)))


def test_as_many_flops_as_m_lep_and_c():
  config = make_config('baseline_matched_flops', lep_units=64)
  made = make_method('impactx', config)
  wide = make_method('baseline_matched_flops', config)
  a = make_method('baseline', config)
  found = flops_of(*wide)
  # As closely as whole channels of LeNet-5's six allow.
  assert found == pytest.approx(flops_of(*made), rel=0.06)
  assert found > 1.5 * flops_of(*a)


# --- Trained further ----------------------------------------------------------


def test_what_is_trained_further_starts_as_a():
  method, classifier = make_method('baseline_continued')
  jax.tree.map(
      np.testing.assert_array_equal, init(method, classifier), classifier
  )


def test_training_a_further_is_training_a():
  """From the same start, the same steps as the baseline's own."""
  config = make_config('baseline_continued')
  a = methods.create('baseline', config, PROBLEM)
  method = methods.create('baseline_continued', config, PROBLEM)
  config.method.training = config.classifier.training
  first = Trainer(a, config, 'baseline')
  start = first.variables
  second = Trainer(method, config, 'baseline_continued', start)
  batch = make_batch()
  assert first.step(batch) == second.step(batch)
  jax.tree.map(
      np.testing.assert_array_equal, first.variables, second.variables
  )


# --- Two A, averaged ----------------------------------------------------------


def test_a_pair_answers_with_the_mean_of_both():
  method, classifier = make_method('baseline_pair')
  a = methods.create('baseline', make_config('baseline_pair'), PROBLEM)
  batch = make_batch()
  variables = init(method, classifier)
  found = method.task.probabilities(predict(method, variables, batch).logits)
  second = {'params': variables['params'], 'collections': {}}
  both = [
      a.task.probabilities(predict(a, one, batch).logits)
      for one in (classifier, second)
  ]
  np.testing.assert_allclose(found, sum(both) / 2, atol=1e-6)
  assert np.abs(both[0] - both[1]).max() > 1e-3


def test_the_second_of_a_pair_is_another_one_though_the_seed_is_as():
  method, classifier = make_method('baseline_pair')  # Of seed 0.
  second = init(method, classifier, seed=0)['params']
  assert all(
      (ours != theirs).all() == (ours.ndim > 1)  # Biases start at 0.
      for ours, theirs in zip(
          jax.tree.leaves(second), jax.tree.leaves(classifier['params']),
          strict=True,
      )
  )


def test_the_second_of_a_pair_learns_as_if_it_were_alone():
  config = make_config('baseline_pair')
  method, classifier = make_method('baseline_pair', config)
  config.method.training = config.classifier.training
  start = init(method, classifier)['params']
  # What is trained further starts from what it is given.
  alone = Trainer(
      methods.create('baseline_continued', config, PROBLEM), config,
      'baseline_continued', {'params': start, 'collections': {}},
  )
  second = Trainer(method, config, 'baseline_pair', classifier)
  batch = make_batch()
  assert alone.step(batch) == second.step(batch)
  jax.tree.map(
      np.testing.assert_array_equal,
      alone.variables['params'], second.variables['params'],
  )
