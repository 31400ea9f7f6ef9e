"""The training loop against the bare step.

  python -m tests.benchmarks.training

Runs epochs of the loop (shuffling, conversion, prefetching, metrics) and the
same number of bare compiled steps on one batch, in turn, for stage one and
stage two of the CIFAR-10 recipe on made-up images. Prints the examples/s of
both and their ratio: the median of the pairs, and the smallest and largest.
"""

import argparse
import time

from etils import epath
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax.training import loop
from impactx_jax.configs import cifar10_lenet5
from impactx_jax.data import batches
from impactx_jax.methods.base import Task
from impactx_jax.report import tables
import jax
import numpy as np
from tqdm.auto import tqdm


def measure(name: str, classifier, *, steps: int, pairs: int):
  """Returns (examples/s of the loop, of the bare step) for each pair."""
  config = cifar10_lenet5.get_config()
  training = config.classifier.training
  method = methods.create(
      name, config, Task(10, (32, 32, 3), classifier)
  )
  generator = np.random.default_rng(0)
  count = steps * training.batch_size
  columns = {
      'image': generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
      'label': generator.integers(0, 10, count).astype(np.int32),
  }
  if methods.METHODS[name].maps:
    columns['map'] = generator.normal(size=(count, 32, 32, 3)).astype('float32')
  optimizer = loop.create_optimizer(training, 10**6)
  state = loop.initial_state(method, optimizer, seed=0)
  variables = jax.device_get(loop.variables_of(state))
  state = parallel.replicate(state)
  step_fn = parallel.data_parallel(
      lambda state, batch: loop.train_step(
          state, batch, method=method, optimizer=optimizer, training=training,
          seed=0,
      )
  )

  def epoch(number):
    return batches.training_epoch(
        columns, batch_size=training.batch_size, seed=0, epoch=number
    )

  batch = parallel.shard(next(epoch(0)))

  def loop(state, number):
    with tqdm(disable=True) as progress:
      return loop.train_epoch(
          step_fn, state, epoch(number), first_step=0, progress=progress,
          directory=epath.Path('benchmark'),
      )[0]

  def bare(state, _):
    for _ in range(steps):
      state, _ = step_fn(state, batch)
    return state

  state = jax.block_until_ready(bare(loop(state, 0), 0))
  rates = []
  for number in range(pairs):
    rate = []
    for run in (loop, bare):
      start = time.perf_counter()
      state = jax.block_until_ready(run(state, number))
      rate.append(count / (time.perf_counter() - start))
    rates.append(rate)
  return np.array(rates), variables


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--steps', type=int, default=100, help='steps an epoch')
  parser.add_argument('--pairs', type=int, default=7, help='epochs of each')
  arguments = vars(parser.parse_args())
  rows = []
  one, classifier = measure('baseline', None, **arguments)
  two, _ = measure('impactx', classifier, **arguments)
  for stage, rates in (('stage one', one), ('stage two', two)):
    ratio = rates[:, 0] / rates[:, 1]
    rows.append([
        stage,
        *(f'{x:,.0f}' for x in np.median(rates, axis=0)),
        f'{np.median(ratio):.3f}',
        f'{ratio.min():.3f} to {ratio.max():.3f}',
    ])
  print(f'{jax.devices()[0].device_kind}, jax {jax.__version__}')
  print(tables.table(
      ['', 'loop examples/s', 'bare step', 'ratio', 'spread'], rows
  ))


if __name__ == '__main__':
  main()
