"""Tests for training whose loss is not a number."""

import dataclasses
import itertools

from impactx_jax import methods
from impactx_jax import stages
from impactx_jax import tasks
from impactx_jax.methods.base import Aux
from impactx_jax.methods.base import mean_metrics
from impactx_jax.training import checkpoints
import jax.numpy as jnp
import numpy as np
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import read_summary
from tests.pipeline_fixtures import refused

TASK = tasks.TASKS['classification']


def _linear(num_classes: int, *, nan_at: int | None = None, layers=1):
  """A method of matrices alone, which compiles in no time.

  Args:
    num_classes: Number of classes.
    nan_at: From which update on, counted from 1, the loss is NaN.
    layers: Factors of the matrix.
  """

  def init(key, classifier=None):
    del key, classifier
    sides = [3, *[4] * (layers - 1), num_classes]
    params = {
        f'layer{i}': jnp.full(shape, 0.1, jnp.float32)
        for i, shape in enumerate(itertools.pairwise(sides))
    }
    return params, {'updates': jnp.zeros((), jnp.int32)}

  def predict(variables, batch):
    logits = batch['image'].mean((1, 2))
    for i in range(layers):
      logits = logits @ variables['params'][f'layer{i}']
    return methods.Prediction(logits)

  def loss(params, collections, batch, key):
    del key
    values = TASK.loss(predict({'params': params}, batch).logits, batch)
    updates = collections['updates'] + 1
    if nan_at is not None:
      values = jnp.where(updates >= nan_at, jnp.nan, values)
    return values.mean(), Aux({'updates': updates}, mean_metrics(loss=values))

  return methods.Method(TASK, init, loss, predict)


def _use_linear(monkeypatch, **options) -> None:
  method = _linear(10, **options)
  _use(monkeypatch, lambda config, problem: method)


def _use(monkeypatch, create) -> None:
  """Puts another method in the place of stage one's."""
  spec = methods.Spec(create, 'linear', from_scratch=True)
  monkeypatch.setitem(methods.METHODS, methods.BASELINE, spec)


def test_loss_that_becomes_nan_stops_and_keeps_the_last_good_checkpoint(
    tmp_path, tiny_config, monkeypatch
):
  directory = tmp_path / 'classifier'
  _use_linear(monkeypatch, nan_at=30)  # An epoch is 20 updates.
  message = refused(
      tiny_config, tmp_path, 'classifier', 'loss is nan', 'step 30,',
      str(directory), '--config.classifier.training.learning_rate',
  )
  assert 'last good checkpoint' in message
  assert read_summary(directory) is None
  kept = checkpoints.restore_variables(
      directory, 20,
      {
          'params': {'layer0': np.zeros((3, 10), np.float32)},
          'collections': {'updates': np.zeros((), np.int32)},
      },
  )
  assert kept['collections']['updates'] == 20
  assert np.isfinite(kept['params']['layer0']).all()
  # It is not only there: training goes on from it.
  _use_linear(monkeypatch)
  stages.run(tiny_config, tmp_path, 'classifier')
  summary = read_summary(directory)
  assert [epoch['step'] for epoch in summary['history']] == [20, 40, 60]
  assert all(np.isfinite(e['train/loss']) for e in summary['history'])


def test_huge_learning_rate_stops_training_in_its_first_epoch(
    tmp_path, tiny_config, monkeypatch
):
  _use_linear(monkeypatch, layers=2)
  tiny_config.classifier.training.learning_rate = 1e30
  message = refused(
      tiny_config, tmp_path, 'all', 'loss is nan', 'step 2,',
      '--config.classifier.training.learning_rate',
  )
  assert begun(tmp_path) == {'classifier', 'config.json'}
  assert read_summary(tmp_path / 'classifier') is None
  # There was none yet, so none is promised.
  assert 'last good checkpoint is in' not in message


def test_validation_loss_that_is_nan_is_noticed(
    tmp_path, tiny_config, monkeypatch
):
  method = _linear(10)

  def predict(variables, batch):
    # Good until the second epoch ends.
    spoilt = variables['collections']['updates'] > 20
    logits = method.predict(variables, batch).logits
    return methods.Prediction(jnp.where(spoilt, jnp.nan, logits))

  spoilt = dataclasses.replace(method, predict=predict)
  _use(monkeypatch, lambda config, problem: spoilt)
  refused(
      tiny_config, tmp_path, 'classifier', 'validation loss is nan', 'step 40,'
  )
  assert (tmp_path / 'classifier' / 'checkpoints' / '20').is_dir()
  assert not (tmp_path / 'classifier' / 'checkpoints' / '40').exists()
