"""What is said of a training run when it is complete."""

import logging

from etils import epath
from impactx_jax.stages import training_run
import pytest
from tests import test_train


@pytest.mark.parametrize(('accuracy', 'warned'), [(0.5, True), (0.51, False)])
def test_a_network_that_is_no_better_than_chance_is_warned_of(
    tmp_path, monkeypatch, caplog, accuracy, warned
):
  monkeypatch.setattr(
      test_train.train.Evaluator,
      '__call__',
      lambda *_: {'accuracy': accuracy, 'cross_entropy': 1.0},
  )
  columns = test_train.make_columns()
  absl_logger = logging.getLogger('absl')
  absl_logger.addHandler(caplog.handler)
  try:
    training_run.fit(
        epath.Path(tmp_path),
        test_train.linear_method(),
        {'train': columns, 'validation': columns},
        training=test_train.make_training(epochs=1),
        seed=0,
        data={'class_names': ['one', 'other']},
    )
  finally:
    absl_logger.removeHandler(caplog.handler)
  assert ('no better than chance' in caplog.text) == warned
  assert (tmp_path / 'summary.json').exists()
