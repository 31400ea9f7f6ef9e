"""The loop: a known answer, early stopping, and an exact continuation."""

import dataclasses

from etils import epath
from impactx_jax.training import checkpoints
from impactx_jax import losses
from impactx_jax import methods
from impactx_jax.training import loop
from impactx_jax.configs import common
from impactx_jax.methods import base
import jax
import jax.numpy as jnp
import numpy as np
import pytest


def linear_method():
  """Logits [w * mean(x), 0]: its gradient is easy to write down."""

  def logits(params, images):
    score = params['w'] * images.mean(axis=(1, 2, 3))
    return jnp.stack([score, jnp.zeros_like(score)], axis=1)

  def loss(params, collections, batch, rng):
    values = losses.cross_entropy(
        logits(params, batch['image']), batch['label']
    )
    return values.mean(), base.Aux(
        collections, base.mean_metrics(loss=values)
    )

  return base.Method(
      init=lambda rng: ({'w': jnp.zeros(())}, {}),
      loss=loss,
      predict=lambda variables, images: base.Prediction(
          logits(variables['params'], images)
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


def fit(directory, method=None, columns=None, **changes):
  columns = columns or make_columns()
  return loop.fit(
      method or linear_method(),
      {'train': columns, 'validation': columns},
      training=make_training(**changes),
      seed=0,
      directory=epath.Path(directory),
  )


def test_first_step_of_adam_moves_by_the_learning_rate(tmp_path):
  columns = make_columns(8)
  columns['label'][:] = 0  # Every gradient points the same way.
  result = fit(tmp_path, columns=columns, epochs=1, learning_rate=0.25)
  variables = checkpoints.restore_variables(
      tmp_path, result.best_step, {'params': {'w': jnp.zeros(())},
                                   'collections': {}}
  )
  assert variables['params']['w'] == pytest.approx(0.25, rel=1e-4)
  # With w = 0 the two classes are equally likely.
  assert result.history[0]['train/loss'] == pytest.approx(np.log(2), rel=1e-5)


def test_a_run_continued_after_each_epoch_ends_as_an_undisturbed_one(tmp_path):
  undisturbed = fit(tmp_path / 'whole', epochs=4, schedule='constant')
  for epochs in (1, 2, 4):
    pieces = fit(tmp_path / 'pieces', epochs=epochs, schedule='constant')
  assert pieces == undisturbed


def test_the_best_epoch_is_kept_and_the_earliest_of_equals(
    tmp_path, monkeypatch
):
  accuracies = iter([0.5, 0.75, 0.7, 0.75, 0.6])
  monkeypatch.setattr(
      loop.Evaluator,
      '__call__',
      lambda *_: {'accuracy': next(accuracies), 'cross_entropy': 1.0},
  )
  result = fit(tmp_path, epochs=5)
  steps_per_epoch = 4
  assert result.best_step == 2 * steps_per_epoch
  assert result.best_accuracy == 0.75
  kept = sorted(int(p.name) for p in (tmp_path / 'checkpoints').iterdir())
  assert kept == [2 * steps_per_epoch, 5 * steps_per_epoch]


def test_a_continued_run_keeps_the_best_and_the_latest_alone(
    tmp_path, monkeypatch
):
  accuracies = iter([0.5, 0.75, 0.7, 0.6, 0.8, 0.7])
  monkeypatch.setattr(
      loop.Evaluator,
      '__call__',
      lambda *_: {'accuracy': next(accuracies), 'cross_entropy': 1.0},
  )
  for epochs, kept in ((3, [8, 12]), (4, [8, 16]), (6, [20, 24])):
    fit(tmp_path, epochs=epochs)
    found = sorted(int(p.name) for p in (tmp_path / 'checkpoints').iterdir())
    assert found == kept


def test_patience_ends_training(tmp_path, monkeypatch):
  accuracies = iter([0.5, 0.75, 0.7, 0.7, 0.7, 0.9])
  monkeypatch.setattr(
      loop.Evaluator,
      '__call__',
      lambda *_: {'accuracy': next(accuracies), 'cross_entropy': 1.0},
  )
  assert len(fit(tmp_path, epochs=6, patience=3).history) == 5


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good(
    tmp_path, monkeypatch
):
  method = linear_method()
  good = fit(tmp_path, method=method, epochs=1)

  def poisoned(*arguments):
    value, aux = method.loss(*arguments)
    return value, aux._replace(
        metrics=jax.tree.map(lambda x: x * jnp.nan, aux.metrics)
    )

  with pytest.raises(loop.InputError, match='nan at step 5'):
    fit(tmp_path, method=dataclasses.replace(method, loss=poisoned), epochs=2)
  # The one saved epoch is there, and training goes on from it.
  kept = [int(p.name) for p in (tmp_path / 'checkpoints').iterdir()]
  assert kept == [good.best_step]
  assert len(fit(tmp_path, method=method, epochs=2).history) == 2


@pytest.mark.parametrize(('schedule', 'warmup', 'expected'), [
    ('cosine', 0.0, {0: 0.5, 5: 0.25, 10: 0.0}),
    ('constant', 0.0, {0: 0.5, 5: 0.5, 10: 0.5}),
    ('cosine', 0.4, {0: 0.0, 1: 0.125, 4: 0.5, 7: 0.25, 10: 0.0}),
    ('constant', 0.4, {0: 0.0, 2: 0.25, 4: 0.5, 10: 0.5}),
    ('cosine', 1.0, {0: 0.0, 5: 0.25, 9: 0.45}),
])
def test_learning_rate_follows_the_schedule(schedule, warmup, expected):
  training = make_training(
      schedule=schedule, learning_rate=0.5, warmup=warmup
  )
  optimizer = loop.create_optimizer(training, total_steps=10)
  params = jnp.ones(())
  state = optimizer.init(params)
  sizes = []
  for _ in range(11):
    update, state = optimizer.update(jnp.ones(()), state, params)
    sizes.append(-float(update))
  for step, size in expected.items():
    assert sizes[step] == pytest.approx(size, rel=1e-3, abs=1e-6)


@pytest.mark.parametrize('batch_size', [5, 32, 100])
def test_each_example_counts_once_whatever_the_batch(batch_size):
  columns = make_columns(23)
  method = linear_method()
  variables = {'params': {'w': jnp.asarray(3.0)}, 'collections': {}}
  means = loop.Evaluator(method, batch_size)(variables, columns)
  images = columns['image'].astype(np.float32) / 255
  prediction = method.predict(variables, images)
  correct = prediction.logits.argmax(-1) == columns['label']
  assert means['accuracy'] == pytest.approx(float(correct.mean()))
  entropy = losses.cross_entropy(prediction.logits, columns['label'])
  assert means['cross_entropy'] == pytest.approx(float(entropy.mean()), 1e-5)


def test_a_classifier_learns_the_digits(data_dir):
  from impactx_jax.data import sources

  config = common.get_config()
  config.data.data_dir = data_dir
  dataset = sources.load(config.data, seed=0)
  method = methods.create(
      'baseline', config, base.Task(10, dataset.image_shape)
  )
  training = config.classifier.training
  training.epochs = 5
  result = loop.fit(
      method,
      {'train': dataset.train, 'validation': dataset.validation},
      training=training,
      seed=0,
      directory=epath.Path(data_dir).parent / 'learns',
  )
  assert result.best_accuracy > 0.9
