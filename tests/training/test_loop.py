"""The loop: a known answer, early stopping, and an exact continuation."""

import dataclasses

from attribution.errors import InputError
from etils import epath
from impactx_jax import methods
from impactx_jax.configs import common
from impactx_jax.data import sources
from impactx_jax.training import checkpoints
from impactx_jax.training import evaluator
from impactx_jax.training import loop
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tests.training.training_fixtures import linear_method
from tests.training.training_fixtures import make_columns
from tests.training.training_fixtures import make_training


def train(directory, method=None, columns=None, start_from=None, **changes):
  columns = columns or make_columns()
  return loop.train(
      method or linear_method(),
      {'train': columns, 'validation': columns},
      training=make_training(**changes),
      section='classifier',
      seed=0,
      directory=epath.Path(directory),
      start_from=start_from,
  )


def weight(directory, step):
  shapes = linear_method().shapes()
  found = checkpoints.restore_variables(directory, step, shapes)
  return float(found['params']['w'])


def kept(directory):
  folder = directory / checkpoints.DIRECTORY
  return sorted(int(path.name) for path in folder.iterdir())


@pytest.fixture
def measured(monkeypatch):
  """Sets what is measured on the validation images, epoch by epoch."""
  def set_measures(name, values):
    values = iter(values)
    monkeypatch.setattr(
        evaluator, 'measure', lambda *_, **__: {
            'accuracy': 0.5, 'cross_entropy': 1.0, name: next(values)
        },
    )

  return set_measures


def test_first_step_of_adam_moves_by_the_learning_rate(tmp_path):
  columns = make_columns(8)
  columns['label'][:] = 0  # Every gradient points the same way.
  result = train(tmp_path, columns=columns, epochs=1, learning_rate=0.25)
  assert weight(tmp_path, result.best_epoch['step']) == pytest.approx(
      0.25, rel=1e-4
  )
  # With w = 0 the two classes are equally likely.
  assert result.epochs[0]['train/loss'] == pytest.approx(np.log(2), rel=1e-5)


def test_each_step_has_the_learning_rate_of_its_own(tmp_path):
  columns = make_columns(8)
  columns['label'][:] = 0
  # Gradients of about the same size: a step of Adam is the learning rate.
  train(
      tmp_path, columns=columns, epochs=4, learning_rate=1e-3,
      schedule='cosine',
  )
  expected = 1e-3 * (1 + np.cos(np.pi * np.arange(4) / 4)).sum() / 2
  assert weight(tmp_path, 4) == pytest.approx(expected, rel=1e-3)


def test_training_starts_from_what_it_is_given(tmp_path):
  def start(variables):
    assert float(variables['params']['w']) == 0
    return {'params': {'w': jnp.asarray(3.0)}, 'collections': {}}

  columns = make_columns(8)
  columns['label'][:] = 0
  train(tmp_path, columns=columns, start_from=start, epochs=1)
  assert weight(tmp_path, 1) == pytest.approx(3 + 1e-3, abs=1e-6)
  # What was trained already is not begun again.
  train(tmp_path, columns=columns, start_from=start, epochs=2)
  assert weight(tmp_path, 2) == pytest.approx(3 + 2e-3, abs=1e-4)


def test_a_run_continued_after_each_epoch_ends_as_an_undisturbed_one(tmp_path):
  undisturbed = train(tmp_path / 'whole', epochs=4)
  for epochs in (1, 2, 4):
    pieces = train(tmp_path / 'pieces', epochs=epochs)
  assert pieces == undisturbed
  assert weight(tmp_path / 'pieces', 16) == weight(tmp_path / 'whole', 16)


@pytest.mark.parametrize(('select', 'values', 'best'), [
    ('max accuracy', [0.5, 0.75, 0.7, 0.75, 0.6], 2),
    ('min cross_entropy', [0.9, 0.8, 0.6, 0.7, 0.6], 3),
])
def test_the_best_epoch_is_kept_and_the_earliest_of_equals(
    tmp_path, measured, select, values, best
):
  measured(select.split()[1], values)
  result = train(tmp_path, epochs=5, select=select)
  steps_per_epoch = 4
  assert result.best_epoch['step'] == best * steps_per_epoch
  assert result.best_epoch[f'validation/{select.split()[1]}'] == (
      values[best - 1]
  )
  assert kept(tmp_path) == [best * steps_per_epoch, 5 * steps_per_epoch]


def test_a_continued_run_keeps_the_best_and_the_latest_alone(
    tmp_path, measured
):
  measured('accuracy', [0.5, 0.75, 0.7, 0.6, 0.8, 0.7])
  for epochs, steps in ((3, [8, 12]), (4, [8, 16]), (6, [20, 24])):
    train(tmp_path, epochs=epochs, select='max accuracy')
    assert kept(tmp_path) == steps


def test_a_front_keeps_every_epoch_that_no_other_is_better_than(
    tmp_path, monkeypatch
):
  measured = iter([
      (0.5, 0.9), (0.7, 1.0), (0.4, 0.8), (0.6, 1.2), (0.7, 0.7), (0.3, 0.6),
  ])
  monkeypatch.setattr(evaluator, 'measure', lambda *_, **__: dict(zip(
      ('accuracy', 'cross_entropy'), next(measured), strict=True
  )))
  # Each call continues the run: of three epochs all, then one has the others'.
  for epochs, steps in ((3, [4, 8, 12]), (4, [4, 8, 12, 16]), (6, [20, 24])):
    train(tmp_path, epochs=epochs, front='max accuracy, min cross_entropy')
    assert kept(tmp_path) == steps


def test_a_front_of_what_is_not_measured_is_refused(tmp_path):
  with pytest.raises(InputError, match="'guided_epg', and validation has"):
    train(tmp_path, front='max accuracy, max guided_epg')
  assert not (tmp_path / checkpoints.DIRECTORY).exists()


def test_patience_ends_training(tmp_path, measured):
  measured('accuracy', [0.5, 0.75, 0.7, 0.7, 0.7, 0.9])
  result = train(tmp_path, epochs=6, patience=3, select='max accuracy')
  assert len(result.epochs) == 5


def test_a_loss_that_is_not_finite_names_the_step_and_keeps_the_last_good(
    tmp_path
):
  method = linear_method()
  good = train(tmp_path, method=method, epochs=1)

  def poisoned(*arguments):
    value, aux = method.loss(*arguments)
    return value, aux._replace(
        metrics=jax.tree.map(lambda x: x * jnp.nan, aux.metrics)
    )

  with pytest.raises(
      InputError, match=r'nan at step 5.*--config\.classifier\.training\.learn'
  ):
    train(tmp_path, method=dataclasses.replace(method, loss=poisoned), epochs=2)
  # The one saved epoch is there, and training goes on from it.
  assert kept(tmp_path) == [good.best_epoch['step']]
  assert len(train(tmp_path, method=method, epochs=2).epochs) == 2


@pytest.mark.parametrize(('changes', 'parts'), [
    ({'batch_size': 33}, (
        '33', 'the 32 there are', '--config.classifier.training.batch_size='
    )),
    ({'select': 'max f1'}, (
        "'f1'", 'accuracy, cross_entropy',
        '--config.classifier.training.select=',
    )),
    ({'select': 'accuracy'}, ("'accuracy'", "'max accuracy'")),
])
def test_what_cannot_be_trained_is_refused_first(tmp_path, changes, parts):
  with pytest.raises(InputError) as error:
    train(tmp_path / 'mine', **changes)
  for part in parts:
    assert part in str(error.value)
  assert not list(tmp_path.iterdir())


def test_seeds_learning_rates_and_scalars_share_a_program(tmp_path):
  traced, plain = [], linear_method()

  def loss(params, collections, batch, key):
    traced.append(batch.keys())
    value, aux = plain.loss(params, collections, batch, key)
    return value * batch['lambda_'], aux

  method = dataclasses.replace(plain, loss=loss)
  columns, ends = make_columns(), []
  for i, (seed, rate, scale) in enumerate([
      (0, 1e-3, 1.0), (1, 1e-3, 1.0), (0, 2e-3, 1.0), (0, 1e-3, -1.0)
  ]):
    directory = epath.Path(tmp_path / str(i))
    loop.train(
        method, {'train': columns, 'validation': columns},
        training=make_training(epochs=1, learning_rate=rate),
        section='classifier', seed=seed, directory=directory,
        scalars={'lambda_': scale},
    )
    ends.append(weight(directory, 4))
  assert len(traced) == 1 and 'lambda_' in traced[0]
  assert len(set(ends)) == 4  # And they are different runs.
  assert np.sign(ends[3]) == -np.sign(ends[0])


def test_a_step_sees_what_the_method_prepares_and_the_scalars(tmp_path):
  seen, plain = {}, linear_method()

  def prepare(state, batch, key):
    seen['prepare'] = batch.keys()
    collections = {'count': state.collections['count'] + batch['row'].size}
    state = state.replace(collections=collections)
    return state, {**batch, 'new': batch['row']}

  def loss(params, collections, batch, key):
    seen['loss'] = batch.keys()
    return plain.loss(params, collections, batch, key)

  method = dataclasses.replace(
      plain,
      init=lambda key, classifier: (
          {'w': jnp.zeros(())}, {'count': jnp.zeros(())}
      ),
      prepare=prepare,
      loss=loss,
  )
  loop.train(
      method, {'train': make_columns(), 'validation': make_columns()},
      training=make_training(epochs=2), section='classifier', seed=0,
      directory=epath.Path(tmp_path), scalars={'lambda_': 1.0},
  )
  assert seen['loss'] == seen['prepare'] | {'new', 'lambda_'}
  assert {'image', 'label', 'position', 'row'} == set(seen['prepare'])
  found = checkpoints.restore_variables(tmp_path, 8, method.shapes())
  assert found['collections']['count'] == 2 * 32 // jax.device_count()


def test_a_classifier_learns_the_digits(data_dir, tmp_path):
  config = common.get_config()
  config.data.data_dir = data_dir
  dataset = sources.load(config.data, seed=0)
  method = methods.create(
      'baseline', config, methods.Problem(10, dataset.image_shape)
  )
  training = config.classifier.training
  training.epochs = 5
  result = loop.train(
      method,
      dataset.columns(),
      training=training,
      section='classifier',
      seed=0,
      directory=epath.Path(tmp_path),
  )
  assert result.best_epoch['validation/accuracy'] > 0.9
