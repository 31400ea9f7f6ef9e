"""Model guidance: its loss, its gradients, and which maps it is about."""

import dataclasses

from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax import methods
from impactx_jax.methods import base
from impactx_jax.methods import guided
from impactx_jax.methods import guided_maps
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.methods.methods_fixtures import make_batch
from tests.methods.methods_fixtures import make_config
from tests.methods.methods_fixtures import make_method

NUM_CLASSES, SHAPE, COUNT = 3, (16, 16, 3), 4
PROBLEM = methods.Problem(NUM_CLASSES, SHAPE)


def config_of(
    attribution='input_x_gradient', layer='input', variant='plain', **changes
):
  config = make_config(
      'guided', guidance_attribution=attribution, guidance_layer=layer,
      guidance_steps=2, **changes,
  )
  config.model.variant = variant
  config.model.pooling = 'mean'
  if variant == 'plain':
    config.model.activation = 'tanh'  # Smooth, for differences.
  guided.check(config)
  return config


def make(config, num_annotated=COUNT, dtype=np.float32):
  """Returns a method, random parameters with biases, collections, a batch."""
  generator = np.random.default_rng(0)
  classifier = methods.create('baseline', config, PROBLEM).init(
      jax.random.key(0), None
  )
  method = methods.create('guided', config, PROBLEM)
  params, collections = method.init(
      jax.random.key(0), dict(zip(('params', 'collections'), classifier,
                                  strict=True))
  )
  params = jax.tree.map(
      lambda x: jnp.asarray(x + 0.05 * generator.normal(size=x.shape), dtype),
      params,
  )
  masks = np.zeros((COUNT, *SHAPE[:2], 1), dtype)
  masks[:, 4:12, 2:6] = 1
  batch = {
      'image': generator.random((COUNT, *SHAPE)).astype(dtype),
      'label': np.arange(COUNT, dtype=np.int32) % NUM_CLASSES,
      'position': np.arange(COUNT, dtype=np.int32),
      'mask': masks,
      'annotated': (np.arange(COUNT) < num_annotated).astype(dtype),
  }
  if method.prepare:
    _, batch = method.prepare(None, batch, jax.random.key(1))
  return method, params, collections, batch


def outside_of(method, collections, batch):
  """Returns what the parameters' localisation loss adds, as a function."""
  def loss(params, weight):
    return method.loss(
        params, collections, batch | {'guidance_lambda': weight},
        jax.random.key(2),
    )[0]

  return jax.jit(lambda params: loss(params, 1.0) - loss(params, 0.0))


@pytest.mark.parametrize(('attribution', 'layer', 'variant', 'options'), [
    ('input_x_gradient', 'input', 'plain', {'guidance_loss': 'energy'}),
    ('input_x_gradient', 'final', 'plain', {'guidance_loss': 'l1'}),
    ('grad_cam', 'final', 'plain', {'guidance_loss': 'ppce'}),
    ('integrated_gradients', 'mid', 'plain', {'guidance_loss': 'rrr'}),
    ('integrated_gradients', 'input', 'x_dnn', {'guidance_loss': 'ppce'}),
    ('b_cos', 'input', 'b_cos', {'guidance_loss': 'energy'}),
    ('b_cos', 'final', 'b_cos', {'guidance_loss': 'l1'}),
    ('input_x_gradient', 'input', 'plain', {
        'guidance_sign': 'both', 'guidance_output': 'difference',
        'guidance_classes': 'all',
    }),
])
def test_gradients_of_second_order_equal_differences(
    attribution, layer, variant, options
):
  config = config_of(attribution, layer, variant, **options)
  with jax.enable_x64(True):
    config.model.dtype = 'float64'
    method, params, collections, batch = make(config, dtype=np.float64)
    outside = outside_of(method, collections, batch)
    gradient = jax.jit(jax.grad(outside))(params)
    direction = np.random.default_rng(1)
    moves = jax.tree.map(
        lambda x: direction.normal(size=x.shape) / np.sqrt(50_000), params
    )
    slope = sum(jax.tree.leaves(jax.tree.map(
        lambda a, b: float((a * b).sum()), gradient, moves
    )))
    high, low = (
        float(outside(jax.tree.map(lambda p, m, s=s: p + s * m, params, moves)))
        for s in (1e-3, -1e-3)
    )
  # Some norms and maps are float32 in any case.
  assert slope == pytest.approx((high - low) / 2e-3, rel=0.01)
  assert abs(slope) > 1e-4


def test_with_lambda_0_it_is_the_classifier_trained_further():
  config = config_of(guidance_lambda=0.0)
  method, params, collections, batch = make(config)
  other = methods.create('baseline_continued', config, PROBLEM)
  assert method.prepare is None
  given = params, collections, batch, jax.random.key(2)
  for found, wanted in zip(
      jax.tree.leaves(method.loss(*given)), jax.tree.leaves(other.loss(*given)),
      strict=True,
  ):
    np.testing.assert_array_equal(found, wanted)


def test_images_without_a_mask_teach_the_class_alone():
  config = config_of()
  method, params, collections, batch = make(config, num_annotated=2)
  whole, aux = method.loss(
      params, collections, batch | {'guidance_lambda': 3.0}, jax.random.key(2)
  )
  half = {name: x[:2] for name, x in batch.items()}
  _, first = method.loss(
      params, collections, half | {'guidance_lambda': 3.0}, jax.random.key(2)
  )
  total, guided_images = aux.metrics['localisation']
  assert guided_images == 2
  np.testing.assert_allclose(total, first.metrics['localisation'][0], rtol=1e-5)
  # A mean over all four, so that a smaller share weighs less.
  np.testing.assert_allclose(
      whole - aux.metrics['cross_entropy'][0] / COUNT, 3 * total / COUNT,
      rtol=1e-5,
  )


def test_an_x_dnn_needs_one_pass_for_integrated_gradients():
  config = config_of('integrated_gradients', 'input', 'x_dnn')
  _, params, collections, batch = make(config)
  variables = {'params': params, 'collections': collections}
  classes = batch['label'][:, None]
  one_pass = guided_maps.map_program(config, NUM_CLASSES)
  config.model.variant = 'plain'  # Of the same network, without the shortcut.
  config.method.guidance_steps = 200
  network = base.flax_variables(variables)
  found = one_pass(variables, batch['image'], classes)

  def score(share):
    x_dnn = config_of('integrated_gradients', 'input', 'x_dnn')
    logits = methods.create('baseline', x_dnn, PROBLEM).predict(
        variables, {'image': share * batch['image']}
    ).logits
    return np.take_along_axis(logits, classes, axis=1)

  assert network
  # Complete: it sums to f(x) - f(0), and f(x / 2) is a half of f(x).
  np.testing.assert_allclose(
      found.sum(axis=(1, 2)), score(1.0) - score(0.0), rtol=1e-4
  )
  np.testing.assert_allclose(score(0.5), score(1.0) / 2, rtol=1e-4)


def test_the_difference_of_two_logits_is_that_of_their_maps():
  two = methods.Problem(2, SHAPE)
  config = config_of()
  variables = dict(zip(
      ('params', 'collections'),
      methods.create('baseline', config, two).init(jax.random.key(0), None),
      strict=True,
  ))
  images = np.random.default_rng(0).random((COUNT, *SHAPE), np.float32)
  both = np.tile([0, 1], (COUNT, 1))
  logits = guided_maps.map_program(config, 2)(variables, images, both)
  config.method.guidance_output = 'difference'
  found = guided_maps.map_program(config, 2)(variables, images, both)
  np.testing.assert_allclose(
      found[..., 0], logits[..., 0] - logits[..., 1], atol=1e-6
  )
  np.testing.assert_allclose(found[..., 0], -found[..., 1], atol=1e-6)


def test_its_own_map_is_the_one_that_is_guided():
  config = config_of('grad_cam', 'final')
  method, params, collections, batch = make(config)
  variables = {'params': params, 'collections': collections}
  prediction = method.predict(variables, batch)
  assert prediction.attribution.shape == (COUNT, *SHAPE[:2], 1)
  answered = prediction.logits.argmax(axis=-1)
  np.testing.assert_array_equal(
      prediction.attribution, method.map_of(variables, batch, answered)
  )
  assert (prediction.attribution >= 0).all() and prediction.attribution.any()


def test_it_starts_from_the_classifier():
  method, classifier = make_method('guided')
  params, collections = method.init(jax.random.key(5), classifier)
  jax.tree.map(np.testing.assert_array_equal, params, classifier['params'])
  batch = make_batch()
  logits = method.predict(
      {'params': params, 'collections': collections}, batch
  ).logits
  baseline = methods.create(
      'baseline', make_config('guided'),
      dataclasses.replace(PROBLEM, num_classes=4, image_shape=(32, 32, 3)),
  )
  np.testing.assert_array_equal(
      logits, baseline.predict(classifier, batch).logits
  )


@pytest.mark.parametrize(('changes', 'said'), [
    ({'guidance_layer': 'last'}, "Unknown layer .*'last'.*final, input"),
    ({'guidance_loss': 'energie'}, "Did you mean 'energy'"),
    ({'guidance_attribution': 'b_cos'}, "is 'plain'.*variant=b_cos"),
    ({'guidance_attribution': 'grad_cam'}, 'guidance_layer=final'),
    ({'guidance_detached': True}, 'guidance_loss=rrr'),
    ({
        'guidance_attribution': 'grad_cam', 'guidance_layer': 'final',
        'guidance_sign': 'both',
    }, 'guidance_sign=positive'),
    ({'guidance_lambda': -1.0}, 'guidance_lambda'),
    ({'mask_fraction': 0.0}, 'mask_fraction'),
])
def test_options_that_do_not_fit_are_refused(changes, said):
  config = make_config('guided', **changes)
  with pytest.raises(InputError, match=said):
    guided.check(config)


@pytest.mark.parametrize(
    ('detached', 'of_worst'), [(False, -1 / 8), (True, 1 / 2)]
)
def test_the_largest_value_of_rrr_is_detached_where_it_is_asked(
    detached, of_worst
):
  config = make_config(
      'guided', guidance_loss='rrr', guidance_detached=detached
  )
  maps = jnp.array([[[1.0, 1.0], [4.0, 2.0]]])[..., None]
  masks = jnp.array([[[1.0, 1.0], [0.0, 0.0]]])[..., None]
  gradient = jax.grad(lambda x: guided_maps.localisation(
      config.method, x, masks, (2, 2)
  ).sum())(maps)
  np.testing.assert_allclose(gradient[0, 1, 0, 0], of_worst, rtol=1e-5)


def test_what_was_moved_out_of_view_does_not_guide():
  config = config_of(guidance_loss='l1')
  method, params, collections, batch = make(config)
  gone = batch['guidance_masks'] * np.reshape([1, 1, 0, 0], (COUNT, 1, 1, 1))
  moved = batch | {'guidance_masks': gone, 'guidance_lambda': 1.0}
  _, aux = method.loss(params, collections, moved, jax.random.key(2))
  assert aux.metrics['localisation'][1] == 2


def test_every_loss_can_be_chosen():
  assert guided.BOUNDS['guidance_loss'].names == tuple(losses.LOCALISATION)
