"""Backbones by name or from a file of the user's, and what is refused."""

from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax import models
from impactx_jax.configs import common
from impactx_jax.stages import checks
import jax
import jax.numpy as jnp
import pytest

MINE = """
from flax import linen as nn
from impactx_jax.models import Backbone
from impactx_jax.models import Scores

class Trunk(nn.Module):
  filters: int

  @nn.compact
  def __call__(self, images, train=False):
    return nn.relu(nn.Conv(self.filters, (3, 3), strides=4)(images))

class Head(nn.Module):
  num_classes: int

  @nn.compact
  def __call__(self, features, train=False):
    features = features.mean(axis=(1, 2))
    return Scores(nn.Dense(self.num_classes)(features), features)

BACKBONE = Backbone(
    trunk=lambda model: Trunk(round(4 * model.width)),
    head=lambda model, num_classes: Head(num_classes),
    min_size=24,
)
"""


@pytest.fixture
def mine(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text(MINE)
  return str(path)


def make_config(name):
  config = common.get_config()
  config.model.name = name
  return config


def refused(name, *parts) -> str:
  """Checks a config with this backbone; returns the message."""
  with pytest.raises(InputError) as error:
    checks.check(make_config(str(name)))
  message = str(error.value)
  assert '\n' not in message
  for part in (*parts, '--config.model.name='):
    assert part in message, message
  return message


def test_a_file_that_defines_backbone_is_one(mine):
  config = make_config(mine)
  config.model.width = 2.0
  checks.check(config)
  network = models.create_classifier(config.model, 5)
  images = jnp.zeros((3, 32, 32, 3))
  variables = network.init(jax.random.key(0), images)
  kernel = variables['params']['trunk']['Conv_0']['kernel']
  assert kernel.shape == (3, 3, 3, 8)
  scores = network.apply(variables, images)
  assert scores.logits.shape == (3, 5) and scores.features.shape == (3, 8)


def test_impactx_has_a_lep_of_the_users_trunk(mine):
  config = make_config(mine)
  problem = methods.Problem(4, (32, 32, 3))
  classifier = methods.create('baseline', config, problem).shapes()
  method = methods.create('impactx', config, problem)
  branch = method.shapes(classifier)['params']
  assert jax.tree.structure(branch['lep']['trunk']) == jax.tree.structure(
      classifier['params']['trunk']
  )
  # Features of 8x8x4, laid in a row.
  assert branch['lep']['code']['kernel'].shape == (256, 512)


def test_the_smallest_side_is_the_backbones(mine):
  model = make_config(mine).model
  models.check(model, (24, 40, 3))
  with pytest.raises(InputError) as error:
    models.check(model, (40, 23, 3))
  for part in (mine, '24x24', '40x23', '--config.data.image_size'):
    assert part in str(error.value)


@pytest.mark.parametrize(('content', 'parts'), [
    ('', ('BACKBONE', 'impactx_jax.models.base.Backbone')),
    ('BACKBONE = 5', ('BACKBONE', 'impactx_jax.models.base.Backbone')),
    ('1 / 0', ('ZeroDivisionError',)),
    (None, ('no file',)),
])
def test_a_file_without_a_backbone_is_refused(tmp_path, content, parts):
  path = tmp_path / 'mine.py'
  if content is not None:
    path.write_text(content)
  refused(path, str(path), *parts)


def test_an_unknown_name_lists_the_known_and_the_other_way():
  message = refused('resnet', "'resnet'", 'lenet5', 'BACKBONE')
  assert 'FILE.py' in message


@pytest.mark.parametrize('width', [0.0, -1.0, 65.0, float('nan')])
def test_width_out_of_range_is_refused(width):
  config = common.get_config()
  config.model.width = width
  with pytest.raises(InputError) as error:
    checks.check(config)
  for part in (str(width), '64', '--config.model.width='):
    assert part in str(error.value)
