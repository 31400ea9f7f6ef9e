"""The backbones in PyTorch, in a process and an environment of their own.

For `tests.benchmarks.backbones --peer=torch`, which starts it: it needs torch
and timm, and nothing of this repository. It reads requests from standard
input, one JSON object a line, and answers each with one line.

timm imports torchvision, which has no build for a CPU build of torch
everywhere, for transforms and for hooks that these models do not use. Where it
is missing, empty classes take its place while timm is imported.
"""

import ctypes
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys
import time
import types

import torch
from torch import nn

# timm's names; EfficientNet-B2 with the padding of its TensorFlow version, as
# ours.
MODELS = {
    'mobilenet': 'mobilenetv1_100', 'efficientnet_b2': 'tf_efficientnet_b2'
}
FORMATS = {
    'contiguous': torch.contiguous_format, 'channels_last': torch.channels_last
}


class _Names(type):
  """A class whose attributes are their names, as an enumeration's."""

  def __getattr__(cls, name):
    if name.startswith('__'):
      raise AttributeError(name)
    return name


class _Empty(types.ModuleType):
  """A module in which every name is an empty class."""

  def __getattr__(self, name):
    if name.startswith('__'):
      raise AttributeError(name)
    return _Names(name, (), {})


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
  """Finds torchvision and all modules of it, as empty ones."""

  def find_spec(self, name, path, target=None):
    del path, target
    if name.partition('.')[0] == 'torchvision':
      return importlib.machinery.ModuleSpec(name, self, is_package=True)
    return None

  def create_module(self, spec):
    return _Empty(spec.name)

  def exec_module(self, module):
    pass


def create(name: str) -> nn.Module:
  """Builds a backbone with 10 classes and nothing dropped in training."""
  if name == 'lenet5':
    return nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(),
        nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )
  if importlib.util.find_spec('torchvision') is None:
    sys.meta_path.append(_Finder())
  import timm  # pylint: disable=g-import-not-at-top

  return timm.create_model(
      MODELS[name], num_classes=10, drop_rate=0.0, drop_path_rate=0.0
  )


def call_of(request: dict) -> tuple[callable, int]:
  """Returns one forward pass or training step, and the parameters' number."""
  memory = FORMATS[request['format']]
  model = create(request['name']).to(memory_format=memory)
  batch, size = request['batch'], request['size']
  images = torch.rand(batch, 3, size, size).to(memory_format=memory)
  labels = torch.randint(0, 10, (batch,))
  count = sum(p.numel() for p in model.parameters())
  if request['kind'] == 'forward':
    model.eval()

    def forward():
      with torch.inference_mode():
        return model(images).softmax(-1)

    return forward, count
  model.train()
  optimizer = torch.optim.Adam(model.parameters(), 1e-3, fused=True)

  def step():
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(images), labels).backward()
    optimizer.step()

  return step, count


def rates(call, batch: int, seconds: float) -> dict[str, float]:
  """Returns images/s of the clock and of the time of all processors."""
  call()
  start, of_cpu, count = time.perf_counter(), time.process_time(), 0
  while time.perf_counter() - start < seconds:
    call()
    count += 1
  return {
      'wall': batch * count / (time.perf_counter() - start),
      'cpu': batch * count / (time.process_time() - of_cpu),
  }


def _keep_memory() -> None:
  """As `impactx_jax.memory.keep`."""
  mallopt = ctypes.CDLL(None).mallopt
  for setting, value in ((-8, 1), (-3, 2**31 - 1), (-1, 2**31 - 1)):
    mallopt(setting, value)


def main() -> None:
  if '--keep_memory' in sys.argv:
    _keep_memory()
  torch.set_num_threads(len(os.sched_getaffinity(0)))
  calls, answers = {}, sys.stdout
  sys.stdout = sys.stderr  # What a library prints must not come between.
  print(json.dumps({'torch': torch.__version__}), file=answers, flush=True)
  for line in sys.stdin:
    request = json.loads(line)
    seconds = request.pop('seconds')
    key = json.dumps(request)
    if key not in calls:
      if len(calls) > 1:  # One forward and one training call at a time.
        calls.clear()
      calls[key] = call_of(request)
    call, count = calls[key]
    found = rates(call, request['batch'], seconds) | {'parameters': count}
    print(json.dumps(found), file=answers, flush=True)


if __name__ == '__main__':
  main()
