"""ResNet-20: its size, its shortcuts, and that every method takes it."""

from impactx_jax import models
from impactx_jax.models import resnet
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import NUM_CLASSES
from tests.methods.methods_fixtures import Trainer
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method
from tests.methods.methods_fixtures import predict
from tests.models import variants_fixtures
from tests.models.variants_fixtures import make
from tests.models.variants_fixtures import make_images
from tests.models.variants_fixtures import model_config

one_block = variants_fixtures.one_block


@pytest.mark.parametrize(('variant', 'size'), [
    # 3x3 convolutions 3·16, 6·16², 16·32, 5·32², 32·64, 5·64²; the last layer
    # 64·10; two numbers a channel of each BatchNorm, and ten biases.
    ('plain', 267_696 + 640 + 2 * (7 * 16 + 6 * 32 + 6 * 64) + 10),
    ('x_dnn', 267_696 + 640),
    # Six channels of the image, and two units of each.
    ('b_cos', 2 * (267_696 + 9 * 3 * 16 + 640)),
])
def test_has_the_original_number_of_parameters(variant, size):
  network = models.create_classifier(model_config('resnet20', variant), 10)
  shapes = jax.eval_shape(
      network.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
  )
  found = sum(x.size for x in jax.tree.leaves(shapes['params']))
  assert found == size
  if variant == 'plain':
    assert found == 269_722


def test_a_block_that_adds_nothing_is_its_shortcut():
  stage = resnet.Stage(6, 2)
  x = jax.random.normal(jax.random.key(0), (2, 7, 8, 4))
  variables = stage.init(jax.random.key(1), x)
  nothing = jax.tree.map(jnp.zeros_like, variables['params'])
  found = stage.apply(variables | {'params': nothing}, x)
  expected = np.zeros((2, 4, 4, 6))
  expected[..., :4] = np.maximum(x[:, ::2, ::2], 0)
  np.testing.assert_allclose(found, expected)


@pytest.mark.parametrize('variant', models.VARIANTS)
def test_stem_and_last_stage_make_the_trunk(variant):
  network, variables = make('resnet20', variant)
  trunk, images = network.trunk, make_images()
  of_trunk = {
      name: part['trunk'] for name, part in variables.items() if 'trunk' in part
  }
  stem = trunk.apply(of_trunk, images, method='stem')
  assert stem.shape == (3, 16, 16, 8)
  np.testing.assert_allclose(
      trunk.apply(of_trunk, stem, method='last_stage'),
      trunk.apply(of_trunk, images), rtol=1e-6,
  )


def test_images_are_resized_inside():
  network, variables = make('resnet20', 'b_cos', input_size=16)
  encoded = network.apply(
      variables, make_images(), 'input', method='until'
  )
  stage = network.apply(variables, make_images(), 'mid1', method='until')
  assert encoded.shape == (3, 32, 32, 6) and stage.shape == (3, 16, 16, 4)


# What builds something around a backbone; the rest are these with other losses.
METHODS = (
    'baseline', 'impactx', 'impactx_single_stage', 'abn', 'wae', 'explainer'
)


@pytest.mark.parametrize(('name', 'variant'), [
    *((name, 'plain') for name in METHODS),
    ('impactx', 'x_dnn'), ('abn', 'x_dnn'), ('impactx', 'b_cos'),
    ('abn', 'b_cos'), ('explainer', 'b_cos'),
])
@pytest.mark.usefixtures('one_block')
def test_every_method_trains_a_step_with_it(name, variant):
  config = make_config('impactx' if name == 'baseline' else name)
  config.model = model_config('resnet20', variant, width=0.125)
  config.attribution.explainer = 'partition_grid'
  config.attribution.grid = 1
  method, classifier = make_method(name, config)
  trainer, batch = Trainer(method, config, name, classifier), make_batch()
  before = trainer.variables['params']
  metrics = trainer.step(batch)
  assert np.isfinite(list(metrics.values())).all()
  after = trainer.variables
  assert any(jax.tree.leaves(jax.tree.map(
      lambda a, b: (a != b).any(), before, after['params']
  )))
  found = predict(method, after, {name: batch[name] for name in method.inputs})
  assert found.logits.shape == (8, NUM_CLASSES)
  assert np.isfinite(found.logits).all()
