"""What is said and kept of a training run when it is complete."""

import dataclasses
import logging

from impactx_jax import methods
from impactx_jax.configs import common
from impactx_jax.stages import runs
from impactx_jax.stages import training_run
from impactx_jax.training import evaluator
import numpy as np
import pytest
from tests.training import test_evaluator
from tests.training import test_loop

DATA = {'class_names': ['one', 'other'], 'image_shape': [4, 4, 1]}


@pytest.fixture
def train(monkeypatch):
  """Returns train(workdir) of a method with one parameter, in no time."""
  method = test_loop.linear_method()
  spec = methods.Spec(
      lambda config, problem: method, 'linear', from_scratch=True
  )
  monkeypatch.setitem(methods.METHODS, methods.BASELINE, spec)
  config = common.get_config()
  config.classifier.training.update(epochs=2, batch_size=8)
  columns = test_loop.make_columns()

  def call(workdir):
    run = runs.resolve(config, workdir)
    training_run.train(
        run,
        methods.BASELINE,
        methods.Problem(2, (4, 4, 1)),
        {'train': columns, 'validation': columns},
        data=DATA,
        made_from={'another': 'abc'},
    )
    return run.classifier.load()

  return call


def test_the_summary_says_what_was_trained_on_what(train, tmp_path, capsys):
  summary = train(tmp_path)
  assert summary['parameters'] == 1
  assert summary['examples'] == {'train': 32, 'validation': 32}
  assert summary['data'] == DATA and summary['made_from'] == {'another': 'abc'}
  assert [epoch['step'] for epoch in summary['history']] == [4, 8]
  best = summary['history'][summary['best_epoch'] - 1]
  assert best['step'] == summary['best_step']
  assert best['validation/accuracy'] == summary['best_validation_accuracy']
  assert summary['map_r2'] is None
  printed = capsys.readouterr().out
  assert f'{100 * summary["best_validation_accuracy"]:.2f}' in printed


@pytest.mark.parametrize('code', [True, False])
def test_a_code_is_probed_for_the_maps_there_are(code):
  columns = test_evaluator.make_columns(80)
  columns['map'] = 1 - columns['image'] / np.float32(255)
  columns['map'][60:] = 0  # There is none.
  columns['mapped'] = (np.arange(80) < 60).astype(np.float32)
  method = dataclasses.replace(
      test_evaluator.make_method(lambda scale, images: scale * images),
      code=(lambda scale, batch: scale * batch['image'].reshape(-1, 16))
      if code else None,
  )
  found = training_run._fit_to_maps(method, np.float32(2), columns, 8)
  assert found.keys() == {'map_r2', 'probe_r2'}
  assert found['map_r2'] < 0  # It is not what it predicts.
  if code:
    assert found['probe_r2'] > 0.95
  else:
    assert found['probe_r2'] is None
  del columns['map']
  found = training_run._fit_to_maps(method, np.float32(2), columns, 8)
  assert {*found.values()} == {None}


@pytest.mark.parametrize(('accuracy', 'warned'), [(0.5, True), (0.51, False)])
def test_a_network_that_is_no_better_than_chance_is_warned_of(
    train, tmp_path, monkeypatch, caplog, accuracy, warned
):
  monkeypatch.setattr(
      evaluator, 'measure',
      lambda *_, **__: {'accuracy': accuracy, 'cross_entropy': 1.0},
  )
  absl_logger = logging.getLogger('absl')
  absl_logger.addHandler(caplog.handler)
  try:
    train(tmp_path)
  finally:
    absl_logger.removeHandler(caplog.handler)
  assert ('no better than chance' in caplog.text) == warned
