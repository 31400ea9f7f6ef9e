"""Small methods and made-up batches, and the one step that trains them."""

import functools

from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax.configs import common
from impactx_jax.methods import base
from impactx_jax.training import train_step
import jax
import jax.numpy as jnp
import numpy as np

NUM_CLASSES = 4
SHAPE = (32, 32, 3)
PROBLEM = methods.Problem(NUM_CLASSES, SHAPE)


def make_config(name='impactx', **changes):
  """A small network; changes are of `config.method`."""
  config = common.get_config()
  config.method.decoder_filters = 8
  config.method.lep_units = 16
  config.method.name = name
  config.method.refresh_evals = 10
  config.attribution.batch_size = 4
  config.classifier.training.learning_rate = 0.01
  config.method.update(changes)
  return methods.config_of(name, config)


def init(method, classifier=None, seed=0):
  """Returns variables as `predict` takes them.

  Not compiled: operations that another method has had are not compiled again.
  """
  params, collections = method.init(jax.random.key(seed), classifier)
  return {'params': params, 'collections': collections}


def make_classifier(config, seed=0):
  return init(methods.create('baseline', config, PROBLEM), seed=seed)


def make_method(name='impactx', config=None, examples=8, **changes):
  """Returns a method, and the classifier it is given if it takes one."""
  config = config or make_config(name, **changes)
  classifier = None
  if not methods.METHODS[name].from_scratch:
    classifier = make_classifier(config)
  problem = methods.Problem(NUM_CLASSES, SHAPE, examples=examples)
  return methods.create(name, config, problem), classifier


def make_batch(count=8, channels=3, seed=7):
  """What `data.batches.training_epoch` yields."""
  keys = jax.random.split(jax.random.key(seed))
  return {
      'image': jax.random.uniform(keys[0], (count, *SHAPE)),
      'label': jnp.arange(count, dtype=jnp.int32) % NUM_CLASSES,
      'explained': jnp.arange(count, dtype=jnp.int32) % NUM_CLASSES,
      'map': jax.random.normal(keys[1], (count, *SHAPE[:2], channels)),
      'teacher': jnp.full((count, NUM_CLASSES), 1 / NUM_CLASSES),
      'mask': jnp.zeros((count, *SHAPE[:2], 1)).at[:, 8:24, 4:12].set(1),
      'annotated': jnp.ones(count),
      'position': jnp.arange(count, dtype=jnp.int32),
      'row': jnp.arange(count, dtype=jnp.int32),
  }


def on_one_device(fn):
  """Calls a function as the only device of those that a step runs on."""
  def call(*arguments):
    mapped = jax.vmap(
        lambda _: fn(*arguments), axis_name=parallel.AXIS
    )
    return jax.tree.map(lambda x: x[0], mapped(jnp.zeros(1)))

  return jax.jit(call)


@functools.lru_cache(maxsize=4)  # One program for all batches and weights.
def _loss_and_gradients(method):
  return on_one_device(jax.value_and_grad(method.loss, has_aux=True))


def loss_of(method, variables, batch, lambda_=1.0):
  """Returns the loss, Aux and gradients as a training step has them."""
  value, gradients = _loss_and_gradients(method)(
      variables['params'], variables['collections'],
      batch | {'lambda_': jnp.float32(lambda_)}, jax.random.key(0),
  )
  return *jax.device_get(value), gradients


def predict(method, variables, batch):
  """Compiled as a whole, which is faster than one operation after another."""
  return jax.device_get(jax.jit(method.predict)(variables, batch))


class Trainer:
  """Trains as the loop does, step by step, on all devices."""

  def __init__(self, method, config, name, classifier=None):
    training = config[methods.find(name).section].training
    variables = init(method, classifier, config.seed)
    self._start = jax.device_get(train_step.TrainState(
        step=jnp.zeros((), jnp.int32),
        **variables,
        opt_state=train_step.OPTIMIZER.init(variables['params']),
    ))
    self._inputs = train_step.Inputs(
        keys={n: rng.stream(config.seed, n) for n in train_step.STREAMS},
        learning_rate=np.float32(training.learning_rate),
        scalars={
            n: np.float32(value)
            for n, value in methods.scalars(name, config).items()
        },
    )
    self._step = train_step.compiled_step(
        method, training.flip, training.crop_padding
    )
    self.restart()

  def restart(self):
    """Goes back to the state before the first step; returns itself."""
    self.state = parallel.replicate(self._start)
    return self

  @property
  def variables(self):
    """Of the network as it is now, as NumPy arrays."""
    return jax.device_get(train_step.variables_of(self.state))

  @property
  def scratch(self):
    """What only training needs, as NumPy arrays."""
    return jax.device_get(self.state.collections[base.SCRATCH])

  def step(self, batch):
    """Makes one update; returns the mean of each metric that counted."""
    self.state, metrics = self._step(
        self.state, parallel.shard(batch), self._inputs
    )
    return {
        name: float(total) / float(count)
        for name, (total, count) in metrics.items()
        if count
    }


def unmoved(before, after) -> list[str]:
  """Names the leaves that are equal in both trees."""
  same = jax.tree.map(np.array_equal, before, after)
  return [
      jax.tree_util.keystr(path)
      for path, equal in jax.tree_util.tree_leaves_with_path(same)
      if equal
  ]
