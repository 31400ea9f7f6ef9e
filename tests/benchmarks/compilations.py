"""Counts what is compiled: `python -m tests.benchmarks.compilations`.

Explains three networks of one architecture (other seeds of LeNet-5) with each
explainer, and calls `attribution.explain` twice with the same function. Prints
compilations and seconds of each call.
"""

import time

import attribution
from attribution.maskers import Masker
from impactx_jax import methods
from impactx_jax.configs import common
from impactx_jax.evaluation import explaining
from impactx_jax.report import console
import jax
import numpy as np

COMPILED = '/jax/core/compile/backend_compile_duration'
EXPLAINERS = (
    'partition', 'partition_grid', 'grad_cam', 'input_x_gradient',
    'integrated_gradients',
)


class Counter:
  """Counts compilations of the backend, of what is not in a cache."""

  def __init__(self):
    """Begins to listen."""
    self.count = 0
    jax.monitoring.register_event_duration_secs_listener(self._listen)

  def _listen(self, event: str, seconds: float, **_) -> None:
    del seconds
    self.count += event == COMPILED

  def of(self, call) -> str:
    """Calls, and returns what it compiled and how long it took."""
    before, start = self.count, time.monotonic()
    call()
    seconds = time.monotonic() - start
    return f'{self.count - before} ({seconds:.3f} s)'


def main() -> None:
  """Prints the table."""
  config = common.get_config()
  problem = methods.Problem(10, (32, 32, 3))
  method = methods.create(methods.BASELINE, config, problem)
  networks = []
  for seed in range(3):
    params, collections = method.init(jax.random.key(seed))
    networks.append({'params': params, 'collections': collections})
  images = np.random.default_rng(0).random((8, 32, 32, 3), np.float32)
  labels, counter, rows = np.arange(8), Counter(), []
  for name in EXPLAINERS:
    rows.append([name, *(
        counter.of(lambda variables=variables, name=name: explaining.explainer(
            method, config.attribution, Masker(), explainer=name, max_evals=500
        )(variables, images, labels))
        for variables in networks
    )])
  score_fn = explaining.scores(method, 'probability')
  rows.append(['attribution.explain', *(
      counter.of(lambda variables=variables: attribution.explain(
          score_fn, images, labels, variables=variables, max_evals=500
      ))
      for variables in (*networks[:1], *networks[:1], *networks[1:2])
  )])
  print(console.table(
      ['compilations', 'first network', 'second', 'third'], rows
  ))
  print('\nattribution.explain: the same network twice, then another one.')


if __name__ == '__main__':
  main()
