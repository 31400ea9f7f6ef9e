"""One update: its learning rate by hand, and what is compiled for it."""

from impactx_jax.training import train_step
import numpy as np
import pytest
from tests.training.training_fixtures import linear_method
from tests.training.training_fixtures import make_training


@pytest.mark.parametrize(('schedule', 'warmup', 'expected'), [
    ('cosine', 0.0, {0: 0.5, 5: 0.25, 9: 0.25 * (1 + np.cos(0.9 * np.pi))}),
    ('constant', 0.0, {0: 0.5, 5: 0.5, 9: 0.5}),
    ('cosine', 0.4, {
        0: 0.0, 1: 0.125, 4: 0.5, 7: 0.25,
        9: 0.25 * (1 + np.cos(5 / 6 * np.pi)),
    }),
    ('constant', 0.4, {0: 0.0, 2: 0.25, 4: 0.5, 9: 0.5}),
    ('cosine', 1.0, {0: 0.0, 5: 0.25, 9: 0.45}),
])
def test_learning_rate_follows_the_schedule(schedule, warmup, expected):
  training = make_training(
      schedule=schedule, learning_rate=0.5, warmup=warmup
  )
  rates = train_step.learning_rates(training, total_steps=10)
  assert rates.shape == (10,) and rates.dtype == np.float32
  for step, rate in expected.items():
    assert rates[step] == pytest.approx(rate, rel=1e-3, abs=1e-6)


def test_a_step_is_compiled_once_for_a_method_and_its_augmentation():
  method = linear_method()
  step = train_step.compiled_step(method, True, 2)
  assert train_step.compiled_step(method, True, 2) is step
  assert train_step.compiled_step(method, False, 2) is not step
  assert train_step.compiled_step(linear_method(), True, 2) is not step
