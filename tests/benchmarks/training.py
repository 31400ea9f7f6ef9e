"""The training loop against the bare step.

  python -m tests.benchmarks.training

Runs epochs of the loop (shuffling, conversion, prefetching, metrics) and the
same number of bare compiled steps on one batch, in turn, for stage one and
stage two of the CIFAR-10 recipe on made-up images. Prints the examples/s of
both and their ratio: the median of the pairs, and the smallest and largest.
"""

import argparse
import time

from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax.configs import cifar10_lenet5
from impactx_jax.data import batches
from impactx_jax.report import console
from impactx_jax.training import loop
from impactx_jax.training import train_step
import jax
import numpy as np
from tqdm.auto import tqdm


def measure(name: str, classifier, *, steps: int, pairs: int):
  """Returns (examples/s of the loop, of the bare step) for each pair."""
  config = cifar10_lenet5.get_config()
  training = config.classifier.training
  method = methods.create(name, config, methods.Problem(10, (32, 32, 3)))
  generator = np.random.default_rng(0)
  count = steps * training.batch_size
  columns = {
      'image': generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
      'label': generator.integers(0, 10, count).astype(np.int32),
  }
  if methods.find(name).maps(config.method):
    columns['map'] = generator.normal(size=(count, 32, 32, 3)).astype('float32')
  state = train_step.initial_state(method, 0, classifier)
  variables = jax.device_get(train_step.variables_of(state))
  state = parallel.replicate(state)
  step_fn = train_step.compiled_step(
      method, training.flip, training.crop_padding
  )
  inputs = train_step.Inputs(
      keys={name: rng.stream(0, name) for name in train_step.STREAMS},
      learning_rate=np.float32(0.001),
      scalars={
          field: np.float32(value)
          for field, value in methods.scalars(name, config).items()
      },
  )
  rates = np.full(steps, inputs.learning_rate)

  def epoch(number):
    return batches.training_epoch(
        columns, batch_size=training.batch_size, seed=0, epoch=number
    )

  batch = parallel.shard(next(epoch(0)))

  def of_loop(state, number):
    with tqdm(disable=True) as progress:
      return loop.train_epoch(
          step_fn, state, epoch(number), inputs=inputs, rates=rates,
          first_step=0, progress=progress, check=lambda *_: None,
      )[0]

  def bare(state, _):
    for _ in range(steps):
      state, _ = step_fn(state, batch, inputs)
    return state

  state = jax.block_until_ready(bare(of_loop(state, 0), 0))
  found = []
  for number in range(pairs):
    rate = []
    for run in (of_loop, bare):
      start = time.perf_counter()
      state = jax.block_until_ready(run(state, number))
      rate.append(count / (time.perf_counter() - start))
    found.append(rate)
  return np.array(found), variables


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
  print(console.table(
      ['', 'loop examples/s', 'bare step', 'ratio', 'spread'], rows
  ))


if __name__ == '__main__':
  main()
