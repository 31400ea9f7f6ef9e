"""ABN against a second writing of it, and what it asks of a backbone."""

from attribution.errors import InputError
from flax import linen as nn
from impactx_jax import methods
from impactx_jax import models
from impactx_jax.models import lenet
from impactx_jax.stages import checks
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import PROBLEM
from tests.methods.methods_fixtures import SHAPE
from tests.methods.methods_fixtures import Trainer
from tests.methods.methods_fixtures import init
from tests.methods.methods_fixtures import loss_of
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method
from tests.methods.methods_fixtures import predict


@pytest.fixture(scope='module')
def method():
  return make_method('abn')[0]


@pytest.fixture(scope='module')
def variables(method):
  """Fresh, but for scales and biases, which would hide a mistake."""
  variables = init(method)
  leaves, tree = jax.tree.flatten(variables['params'])
  keys = jax.random.split(jax.random.key(3), len(leaves))
  moved = [
      leaf + 0.3 * jax.random.normal(key, leaf.shape)
      if leaf.ndim == 1 else leaf
      for leaf, key in zip(leaves, keys, strict=True)
  ]
  return {**variables, 'params': jax.tree.unflatten(tree, moved)}


def convolve(features, weights):
  features = jax.lax.conv_general_dilated(
      features, weights['kernel'], (1, 1), 'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  return features + weights.get('bias', 0)


def normalise(features, weights):
  """BatchNorm with the batch's own statistics."""
  mean = features.mean(axis=(0, 1, 2))
  variance = jnp.square(features - mean).mean(axis=(0, 1, 2))
  scaled = (features - mean) / jnp.sqrt(variance + 1e-3)
  return scaled * weights['scale'] + weights.get('bias', 0)


def both_logits(params, images):
  """Perception and attention logits of ABN with LeNet-5, in training."""
  stem = lenet.LeNet5Trunk().apply(
      {'params': params['trunk']}, images, method='stem'
  )
  values = stem
  for i in (1, 2):
    stage = params['attention_stage']
    values = convolve(values, stage[f'conv{i}'])
    values = jax.nn.relu(normalise(values, stage[f'bn{i}']))
  values = normalise(values, params['stage_bn'])
  values = convolve(values, params['to_classes'])
  values = jax.nn.relu(normalise(values, params['to_classes_bn']))
  attention_logits = convolve(values, params['attention_logits'])
  attention = normalise(
      convolve(values, params['attention']), params['attention_bn']
  )
  seen = stem * (1 + jax.nn.sigmoid(attention))
  features = nn.max_pool(seen, (2, 2), (2, 2))
  head = lenet.LeNet5Head(NUM_CLASSES)
  perception = head.apply({'params': params['head']}, features)
  return perception.logits, attention_logits.mean(axis=(1, 2))


def cross_entropy(logits, labels):
  probability = np.asarray(jax.nn.softmax(logits), np.float64)
  return -np.log(probability[np.arange(len(labels)), labels]).mean()


def test_loss_is_the_sum_of_both_cross_entropies(method, variables):
  batch = make_batch()
  value, aux, _ = loss_of(method, variables, batch)
  perception, attention = (
      cross_entropy(logits, batch['label'])
      for logits in both_logits(variables['params'], batch['image'])
  )
  np.testing.assert_allclose(value, perception + attention, rtol=1e-4)
  means = {name: s / n for name, (s, n) in aux.metrics.items()}
  assert means['loss'] == pytest.approx(float(value), rel=1e-6)
  assert means['cross_entropy'] == pytest.approx(perception, rel=1e-4)
  assert means['attention_cross_entropy'] == pytest.approx(
      attention, rel=1e-4
  )


def test_accuracy_in_training_is_that_of_the_perception_branch(
    method, variables
):
  batch = make_batch()
  logits, other = both_logits(variables['params'], batch['image'])
  batch['label'] = logits.argmax(-1)
  assert (other.argmax(-1) != batch['label']).any()  # Or they are one.
  _, aux, _ = loss_of(method, variables, batch)
  total, count = aux.metrics['accuracy']
  assert (total, count) == (8, 8)


def test_the_map_lies_between_0_and_1_and_has_the_images_size(
    method, variables
):
  prediction = predict(method, variables, make_batch())
  assert prediction.logits.shape == (8, NUM_CLASSES)
  assert prediction.attribution.shape == (8, *SHAPE[:2], 1)
  assert prediction.attribution.min() > 0
  assert prediction.attribution.max() < 1
  assert (prediction.attribution.std(axis=(1, 2, 3)) > 1e-4).all()


def test_gradients_reach_every_leaf(method, variables):
  _, _, gradients = loss_of(method, variables, make_batch())
  # A bias before a normalisation gets none but noise, which Adam turns into
  # steps of the learning rate.
  without = [
      jax.tree_util.keystr(path)
      for path, leaf in jax.tree_util.tree_leaves_with_path(gradients)
      if not np.abs(leaf).max() > 1e-5
  ]
  assert not without
  assert set(variables['params']) == {
      'trunk', 'head', 'attention_stage', 'stage_bn', 'to_classes',
      'to_classes_bn', 'attention_logits', 'attention', 'attention_bn',
  }


def test_without_attention_it_is_the_plain_backbone(method, variables):
  params = dict(variables['params'])
  params['attention_bn'] = {'scale': jnp.zeros(1), 'bias': jnp.full(1, -1e9)}
  batch = make_batch()
  prediction = predict(method, {**variables, 'params': params}, batch)
  assert not prediction.attribution.any()
  plain = models.create_classifier(make_config().model, NUM_CLASSES).apply(
      {'params': {name: params[name] for name in ('trunk', 'head')}},
      batch['image'],
  )
  np.testing.assert_allclose(prediction.logits, plain.logits, atol=1e-5)
  # With it, it is not.
  with_it = predict(method, variables, batch)
  assert np.abs(with_it.logits - plain.logits).max() > 1e-3


def test_an_image_is_classified_alike_in_any_company(method, variables):
  batch = make_batch()
  together = predict(method, variables, batch)
  alone = predict(method, variables, {'image': batch['image'][3:4]})
  np.testing.assert_allclose(alone.logits, together.logits[3:4], atol=1e-5)
  np.testing.assert_allclose(
      alone.attribution, together.attribution[3:4], atol=1e-5
  )


def test_training_moves_the_statistics_that_prediction_uses(method):
  trainer = Trainer(method, make_config('abn'), 'abn')
  before = trainer.variables
  first = trainer.step(make_batch())['loss']
  for _ in range(15):
    last = trainer.step(make_batch())['loss']
  assert last < first - 0.5
  statistics = trainer.variables['collections']['batch_stats']
  # Nothing is left of the start, so all of them are followed.
  moved = jax.tree.map(
      lambda a, b: bool((a != b).all()), statistics,
      before['collections']['batch_stats'],
  )
  assert all(jax.tree.leaves(moved))


PLAIN = """
from flax import linen as nn
from impactx_jax.models import Backbone
from impactx_jax.models import lenet

class Trunk(nn.Module):
  @nn.compact
  def __call__(self, images, train=False):
    return nn.Conv(4, (3, 3))(images).mean(axis=(1, 2))

class Half(nn.Module):
  def setup(self):
    self.conv = nn.Conv(4, (3, 3), strides=2)

  def stem(self, images, train=False):
    return self.conv(images)

  def __call__(self, images, train=False):
    return self.stem(images).mean(axis=(1, 2))

class Whole(Half):
  def last_stage(self, stem, train=False):
    return stem.mean(axis=(1, 2))

BACKBONE = Backbone(
    trunk=lambda model: {trunk}(),
    head=lenet.BACKBONE.head,
    attention_stage={stage},
)
"""


def backbone_file(folder, trunk, stage):
  path = folder / 'mine.py'
  path.write_text(PLAIN.replace('{trunk}', trunk).replace('{stage}', stage))
  config = make_config('abn')
  config.model.name = str(path)
  return config


@pytest.mark.parametrize(('trunk', 'stage', 'missing'), [
    ('Trunk', 'lenet.BACKBONE.attention_stage', 'lacks stem, last_stage'),
    ('Half', 'lenet.BACKBONE.attention_stage', 'lacks last_stage'),
    ('Whole', 'None', 'lacks attention_stage'),
])
def test_a_backbone_without_its_parts_is_refused(
    tmp_path, trunk, stage, missing
):
  config = backbone_file(tmp_path, trunk, stage)
  with pytest.raises(InputError) as error:
    checks.check(config)
  message = str(error.value)
  assert f'{config.model.name} {missing}.' in message
  assert '--config.method.name=NAME' in message
  # Another method does without.
  config.method.name = 'impactx'
  checks.check(config)


def test_a_backbone_of_the_users_with_all_parts_will_do(tmp_path):
  config = backbone_file(tmp_path, 'Whole', 'lenet.BACKBONE.attention_stage')
  checks.check(config)
  method = methods.create('abn', config, PROBLEM)
  prediction = predict(method, init(method), make_batch())
  assert prediction.logits.shape == (8, NUM_CLASSES)
  assert prediction.attribution.shape == (8, 32, 32, 1)
