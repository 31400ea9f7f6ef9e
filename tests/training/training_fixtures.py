"""The smallest method there is, and data to train it on."""

from impactx_jax import tasks
from impactx_jax.configs import common
from impactx_jax.methods import base
import jax.numpy as jnp
import numpy as np


def linear_method():
  """Logits [w * mean(x), 0]: its gradient is easy to write down."""
  task = tasks.TASKS['classification']

  def logits(params, images):
    score = params['w'] * images.mean(axis=(1, 2, 3))
    return jnp.stack([score, jnp.zeros_like(score)], axis=1)

  def loss(params, collections, batch, key):
    values = task.loss(logits(params, batch['image']), batch)
    return values.mean(), base.Aux(
        collections, base.mean_metrics(loss=values)
    )

  return base.Method(
      task=task,
      init=lambda key, classifier: ({'w': jnp.zeros(())}, {}),
      loss=loss,
      predict=lambda variables, batch: base.Prediction(
          logits(variables['params'], batch['image'])
      ),
  )


def make_columns(count=32):
  generator = np.random.default_rng(0)
  label = (np.arange(count) % 2).astype(np.int32)
  image = generator.integers(0, 256, (count, 4, 4, 1), dtype=np.uint8)
  return {'image': image, 'label': label}


def make_training(**changes):
  training = common.get_config().classifier.training
  training.update(epochs=4, batch_size=8, schedule='constant', patience=0)
  training.update(changes)
  return training
