"""The backbones against the same architectures in PyTorch.

  python -m tests.benchmarks.backbones --peer=torch [--sizes=64,224]

PyTorch's come from timm, and run in a process and an environment of their own
(`backbones_torch`), with as many threads as this process has cores. First each
side tries every batch, and PyTorch both orders of axes in memory; then the two
take turns of some seconds, each at its best. Ours is the compiled prediction
and the training step of stage one, theirs is eval and inference_mode, and a
step of Adam in train mode. Neither drops anything.

The last line has the medians over the rounds, ours by theirs, at the first
size.
"""

import contextlib
import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
import venv

from impactx_jax import methods
from impactx_jax.configs import common as recipes
from impactx_jax.report import console
from impactx_jax.training import train_step
import jax
import numpy as np
from tests.benchmarks import backbones

PACKAGES = (['torch==2.13.0'], ['--no-deps', 'timm==1.0.31'],
            ['huggingface_hub', 'pyyaml', 'safetensors', 'numpy',
             'pillow'])
KINDS = ('forward', 'train')
FORMATS = ('contiguous', 'channels_last')


class _Refused(Exception):
  """What is wrong with the arguments, in a sentence."""


def numbers(text: str, flag: str, least: int) -> list[int]:
  """Reads whole numbers between commas."""
  parts = text.split(',')
  if not all(x.isdecimal() and int(x) >= least for x in parts):
    raise _Refused(
        f'{flag}={text}: give whole numbers from {least} on, such as 64,224.'
    )
  return [int(x) for x in parts]


def check(arguments) -> None:
  """Raises _Refused for arguments that cannot be met; reads the lists."""
  if arguments.peer != 'torch':
    raise _Refused(f"--peer={arguments.peer}: the peer there is is 'torch'.")
  arguments.names = arguments.names.split(',')
  for name in arguments.names:
    if name not in backbones.SIZES:
      raise _Refused(
          f'--names={name}: choose of {", ".join(backbones.SIZES)}.'
      )
  arguments.sizes = numbers(arguments.sizes, '--sizes', 32)
  arguments.batches = numbers(arguments.batches, '--batches', 1)
  if arguments.clock not in ('wall', 'cpu'):
    raise _Refused(f"--clock={arguments.clock}: choose 'wall' or 'cpu'.")
  if arguments.rounds < 1 or arguments.seconds <= 0:
    raise _Refused('--rounds and --seconds must be more than 0.')
  if jax.default_backend() != 'cpu':
    raise _Refused('PyTorch is measured on the CPU: set JAX_PLATFORMS=cpu.')
  python = arguments.peer_python
  if python and not os.access(python, os.X_OK):
    raise _Refused(f'--peer_python={python}: there is no such program.')
  if arguments.out and not pathlib.Path(arguments.out).parent.is_dir():
    raise _Refused(f'--out={arguments.out}: its folder does not exist.')


def environment(folder: str) -> str:
  """Makes an environment with PyTorch; returns its Python."""
  venv.create(folder, with_pip=True)
  python = str(pathlib.Path(folder, 'bin', 'python'))
  for packages in PACKAGES:
    subprocess.run(
        [python, '-m', 'pip', 'install', '--quiet', *packages], check=True
    )
  return python


@contextlib.contextmanager
def torch_process(python: str, keep_memory: bool):
  """Starts PyTorch; yields its version and what measures a call of it."""
  program = pathlib.Path(__file__).with_name('backbones_torch.py')
  process = subprocess.Popen(
      [python, str(program), *(['--keep_memory'] if keep_memory else [])],
      stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
      env={k: v for k, v in os.environ.items() if k != 'PYTHONPATH'},
  )

  def answer():
    line = process.stdout.readline()
    if not line:
      raise _Refused(f'{python} ends: it must have torch and timm.')
    return json.loads(line)

  def measure(**request):
    process.stdin.write(json.dumps(request) + '\n')
    process.stdin.flush()
    return answer()

  try:
    yield answer()['torch'], measure
  finally:
    process.stdin.close()
    process.wait()


@functools.lru_cache(maxsize=1)
def initialised(name: str, size: int):
  """Returns stage one and its first state, which takes long to compile."""
  config = recipes.get_config()
  config.model.name = name
  method = methods.create(
      methods.BASELINE, config, methods.Problem(10, (size, size, 3))
  )
  return method, train_step.initial_state(method, seed=0)


@functools.lru_cache(maxsize=1)
def our_call(name: str, size: int, batch: int, kind: str):
  """Returns one forward pass or training step, and the parameters' number."""
  method, state = initialised(name, size)
  count = sum(x.size for x in jax.tree.leaves(state.params))
  data = backbones.random_batch(batch, size)
  if kind == 'train':
    return backbones.updater(method, state, data), count
  variables = jax.device_put(jax.device_get(train_step.variables_of(state)))
  images = jax.device_put(data['image'])
  forward = jax.jit(lambda variables, images: jax.nn.softmax(
      method.predict(variables, {'image': images}).logits
  ))
  return lambda: forward(variables, images), count


def ours(*, name, size, batch, kind, seconds) -> dict[str, float]:
  """Measures a call of ours as `backbones_torch.rates` does one of theirs."""
  call, parameters = our_call(name, size, batch, kind)
  for _ in range(2):
    jax.block_until_ready(call())
  start, of_cpu, count = time.perf_counter(), time.process_time(), 0
  while time.perf_counter() - start < seconds:
    jax.block_until_ready(call())
    count += 1
  return {
      'wall': batch * count / (time.perf_counter() - start),
      'cpu': batch * count / (time.process_time() - of_cpu),
      'parameters': parameters,
  }


def compare(name: str, size: int, kind: str, torch, arguments) -> dict:
  """Returns the figures of one backbone, size and kind."""
  clock = arguments.clock
  request = dict(name=name, size=size, kind=kind)
  trials = {'ours': {}, 'torch': {}}
  for batch in arguments.batches:
    short = dict(request, batch=batch, seconds=arguments.seconds / 2)
    mine = ours(**short)
    trials['ours'][str(batch)] = mine[clock]
    for order in FORMATS:
      theirs = torch(**short, format=order)
      trials['torch'][f'{batch} {order}'] = theirs[clock]
  if mine['parameters'] != theirs['parameters']:
    raise _Refused(
        f'{name} has {mine["parameters"]} parameters here and '
        f'{theirs["parameters"]} there: that is another architecture.'
    )
  best = {side: max(found, key=found.get) for side, found in trials.items()}
  batch, order = best['torch'].split()
  rounds = {'ours': [], 'torch': []}
  for _ in range(arguments.rounds):
    rounds['ours'].append(
        ours(**request, batch=int(best['ours']), seconds=arguments.seconds)
    )
    rounds['torch'].append(torch(
        **request, batch=int(batch), format=order, seconds=arguments.seconds
    ))
  rates = {
      side: np.array([found[clock] for found in all_found])
      for side, all_found in rounds.items()
  }
  ratio = rates['ours'] / rates['torch']
  return {
      'name': name, 'size': size, 'kind': kind,
      'parameters': mine['parameters'],
      'ours': float(np.median(rates['ours'])), 'ours_batch': best['ours'],
      'torch': float(np.median(rates['torch'])), 'torch_batch': best['torch'],
      'ratio': float(np.median(ratio)),
      'lowest': float(ratio.min()), 'highest': float(ratio.max()),
      'trials': [f'{side}, {setting}: {rate:.1f}'
                 for side, found in trials.items()
                 for setting, rate in found.items()],
      'rounds': [f'{side}, wall {x["wall"]:.1f}, cpu {x["cpu"]:.1f}'
                 for side, found in rounds.items() for x in found],
  }


def row_of(found: dict) -> list[str]:
  """Returns the row of a table."""
  return [
      found['name'], f'{found["size"]}', found['kind'],
      f'{found["parameters"]:,}',
      f'{found["ours"]:,.1f}', found['ours_batch'],
      f'{found["torch"]:,.1f}', found['torch_batch'],
      f'{found["ratio"]:.2f} ({found["lowest"]:.2f} to '
      f'{found["highest"]:.2f})',
  ]


def measure_all(arguments, folder: str) -> list[dict]:
  """Measures every backbone and size, in turn with PyTorch."""
  python = arguments.peer_python or environment(folder)
  keeps = arguments.keeps
  with torch_process(python, keeps) as (version, torch):
    print(
        f'{jax.devices()[0].device_kind}, {len(os.sched_getaffinity(0))} of '
        f'{os.cpu_count()} cores, jax {jax.__version__}, torch {version}, '
        f'float32, memory {"kept" if keeps else "returned"}, images/s of '
        f'{arguments.clock} time', flush=True,
    )
    found = []
    for name in arguments.names:
      sizes = arguments.sizes if backbones.SIZES[name] else [backbones.IMAGES]
      for size in sizes:
        for kind in KINDS:
          found.append(compare(name, size, kind, torch, arguments))
          print(*row_of(found[-1]), flush=True)
  return found


def main(arguments) -> int:
  """Compares; returns the exit code."""
  try:
    check(arguments)
    with tempfile.TemporaryDirectory() as folder:
      found = measure_all(arguments, folder)
  except _Refused as refused:
    print(refused, file=sys.stderr)
    return 2
  print(console.table(
      ['backbone', 'pixels', 'kind', 'parameters', 'ours', 'batch', 'torch',
       'batch', 'ours by torch'],
      [row_of(x) for x in found],
  ))
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps(
        {'clock': arguments.clock, 'rows': found}, indent=1
    ) + '\n')
  print(' '.join(
      f'{x["name"]}_{x["kind"]}_vs_torch={x["ratio"]:.2f}' for x in found
      if x['name'] != 'lenet5' and x['size'] == arguments.sizes[0]
  ))
  return 0
