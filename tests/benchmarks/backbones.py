"""How fast each backbone is: forward, training, and explained.

  python -m tests.benchmarks.backbones

Random weights and images. For each backbone: images/s of the forward pass and
of a training step, each with the share that it reaches of the device's peak,
which a product of large matrices shows in the same run; and images/s that
`partition` explains, its evaluations also as a part of the images of the
forward pass. Needs neither TensorFlow nor a data set.

  python -m tests.benchmarks.backbones --peer=torch [--sizes=64,224]

The same architectures in PyTorch, in turn with ours: see `backbones_peer`.
"""

import argparse
import os
import sys
import time

from attribution.explainers import partition
from impactx_jax import memory
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import rng
from impactx_jax.configs import common as recipes
from impactx_jax.report import console
from impactx_jax.training import train_step
import jax
import jax.numpy as jnp
import numpy as np

# Sides in pixels: of the images, and inside the model on an accelerator.
IMAGES = 32
SIZES = {'lenet5': 0, 'mobilenet': 224, 'efficientnet_b2': 260}
CPU_SIZE = 64


CLOCKS = {'wall': time.perf_counter, 'cpu': time.process_time}


def seconds_of(call, seconds: float, clock: str = 'wall') -> float:
  """Returns the seconds of one call; `call` returns what is to be awaited."""
  jax.block_until_ready(call())
  now = CLOCKS[clock]
  start, count = now(), 0
  while now() - start < seconds:
    jax.block_until_ready(call())
    count += 1
  return (now() - start) / count


def peak(dtype: str, seconds: float, clock: str) -> float:
  """Returns operations/s of a product of large matrices."""
  side = 2048 if jax.default_backend() == 'cpu' else 8192
  matrix = jnp.ones((side, side), dtype)
  product = jax.jit(lambda a, b: a @ b)
  product_seconds = seconds_of(
      lambda: product(matrix, matrix), seconds, clock
  )
  return 2 * side**3 / product_seconds


def operations(jitted, *arguments) -> float:
  """Returns the floating-point operations of a call, as XLA counts them."""
  analysis = jitted.lower(*arguments).compile().cost_analysis()
  analysis = analysis[0] if isinstance(analysis, list) else analysis
  return float(analysis['flops'])


def random_batch(size: int, side: int) -> dict[str, np.ndarray]:
  """Returns images [size, side, side, 3] and labels."""
  generator = np.random.default_rng(0)
  return {
      'image': generator.random((size, side, side, 3), np.float32),
      'label': generator.integers(0, 10, size).astype(np.int32),
      'position': np.arange(size, dtype=np.int32),
  }


def updater(method, state, batch, scalars=None):
  """Returns what trains one step at each call, with a copy of the state."""
  step = train_step.compiled_step(method, flip=False, crop_padding=0)
  inputs = train_step.Inputs(
      keys={name: rng.stream(0, name) for name in train_step.STREAMS},
      learning_rate=np.float32(0.001),
      scalars={n: np.float32(x) for n, x in (scalars or {}).items()},
  )
  state, shards = parallel.replicate(state), parallel.shard(batch)

  def update():
    nonlocal state
    state, _ = step(state, shards, inputs)
    return state.step

  return update


def measure(name: str, arguments) -> list[str]:
  """Returns the row of one backbone."""
  config = recipes.get_config()
  config.model.name = name
  config.model.dtype = arguments.dtype
  size = arguments.size or (
      CPU_SIZE if jax.default_backend() == 'cpu' else SIZES[name]
  )
  config.model.input_size = size = size if SIZES[name] else 0
  method = methods.create(
      methods.BASELINE, config, methods.Problem(10, (IMAGES, IMAGES, 3))
  )
  state = train_step.initial_state(method, seed=0)
  variables = jax.device_put(jax.device_get(train_step.variables_of(state)))
  batch = random_batch(arguments.batch, IMAGES)
  images = jax.device_put(batch['image'])

  def scores(variables, images):
    return jax.nn.softmax(method.predict(variables, {'image': images}).logits)

  forward = jax.jit(scores)
  flops = operations(forward, variables, images)
  def rate(count, call):
    return count / seconds_of(call, arguments.seconds, arguments.clock)

  update = updater(method, state, batch)
  train_rate = rate(arguments.batch, update)
  explain = partition(scores, max_evals=arguments.max_evals, batch_size=50)
  few = batch['image'][: arguments.explained]
  labels = batch['label'][: arguments.explained]
  # In turns, for the part that one is of the other.
  forward_rate, explained_rate = np.median([
      (
          rate(arguments.batch, lambda: forward(variables, images)),
          rate(arguments.explained, lambda: explain(variables, few, labels)),
      )
      for _ in range(arguments.rounds)
  ], axis=0)
  reached = flops / arguments.batch * forward_rate / arguments.peak
  # A training step is taken for three forward passes.
  trained = 3 * flops / arguments.batch * train_rate / arguments.peak
  return [
      name,
      f'{size or IMAGES}',
      f'{flops / arguments.batch / 1e6:,.0f}',
      f'{forward_rate:,.0f}', f'{100 * reached:.0f} %',
      f'{train_rate:,.0f}', f'{100 * trained:.0f} %',
      f'{explained_rate:,.2f}',
      f'{explained_rate * arguments.max_evals / forward_rate:.2f}',
  ]


def main() -> None:
  # Before JAX starts threads, which then have memory of their own.
  keeps = '--return_memory' not in sys.argv and memory.keep()
  on_cpu = jax.default_backend() == 'cpu'
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--names', default=','.join(SIZES))
  parser.add_argument('--size', type=int, default=0, help='inside the model')
  parser.add_argument('--batch', type=int, default=32 if on_cpu else 256)
  parser.add_argument('--dtype', default='float32' if on_cpu else 'bfloat16')
  parser.add_argument('--max_evals', type=int, default=250)
  parser.add_argument('--explained', type=int, default=4 if on_cpu else 64)
  parser.add_argument('--seconds', type=float, default=5.0, help='of each')
  parser.add_argument('--rounds', type=int, default=5)
  parser.add_argument('--clock', default='wall', choices=[*CLOCKS],
                      help="'cpu': of the processors' time, for a machine that "
                      'others use as well')
  peer = parser.add_argument_group('against another library')
  peer.add_argument('--peer', help="'torch', and then what follows counts")
  peer.add_argument('--peer_python', default='', help='of an environment that '
                    'has torch and timm; one is made where it is not given')
  peer.add_argument('--sizes', default='64', help='pixels, LeNet-5 has 32')
  peer.add_argument('--batches', default='8,32,128', help='tried by both')
  peer.add_argument('--return_memory', action='store_true', help='leaves '
                    'malloc as it is, in both')
  peer.add_argument('--out', default='', help='a JSON file of all figures')
  arguments = parser.parse_args()
  arguments.keeps = keeps
  if arguments.peer is not None:
    from tests.benchmarks import backbones_peer  # It needs this module.

    sys.exit(backbones_peer.main(arguments))
  arguments.peak = peak(arguments.dtype, arguments.seconds, arguments.clock)
  rows = [measure(name, arguments) for name in arguments.names.split(',')]
  print(
      f'{jax.devices()[0].device_kind} ({os.cpu_count()} cores), jax '
      f'{jax.__version__}, {arguments.dtype}, batches of {arguments.batch}; '
      f'peak {arguments.peak / 1e9:,.0f} GFLOP/s'
  )
  print(console.table(
      ['backbone', 'pixels', 'MFLOP an image', 'forward images/s', 'of peak',
       'training images/s', 'of peak',
       f'explained images/s, {arguments.max_evals} evaluations',
       'of forward'],
      rows,
  ))


if __name__ == '__main__':
  main()
