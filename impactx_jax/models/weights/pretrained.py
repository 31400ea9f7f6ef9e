"""Networks that start from published weights instead of random numbers."""

from collections.abc import Iterable
import dataclasses
import hashlib
from typing import Any

from attribution.errors import InputError
from impactx_jax import models
from impactx_jax.models.weights import files as weight_files
import jax
from ml_collections import ConfigDict
import numpy as np

REPORT = 'pretrained.json'  # In the folder of what started so.
# The modules that published weights can be of, wherever a network has them.
PARTS = ('trunk', 'head', 'attention_stage')
LAST_LAYER = 'predictions'
_BATCH_NORM = {
    'scale': 'gamma', 'bias': 'beta', 'mean': 'moving_mean',
    'var': 'moving_variance',
}


@dataclasses.dataclass(frozen=True)
class Report:
  """What became of a file of weights.

  Attributes:
    path: Of the file.
    digest: Of the trunk's weights in it.
    loaded: How many arrays of the network were taken from the file.
    parameters: How many numbers these are.
    left: The layers of the file that were not taken.
    fresh: The network's modules that start at random, decoder and the like.
  """

  path: str
  digest: str
  loaded: int
  parameters: int
  left: tuple[str, ...]
  fresh: tuple[str, ...]

  def __str__(self) -> str:
    loaded = f'{self.loaded} arrays, {self.parameters:,} numbers'
    return (
        f'Weights: {self.path}\n'
        f'  loaded            {loaded}\n'
        f'  left in the file  {", ".join(self.left) or "nothing"}\n'
        f'  starts at random  {", ".join(self.fresh) or "nothing"}'
    )


def start(
    model: ConfigDict, variables: Any, *, leave: Iterable[str] = ()
) -> tuple[Any, Report]:
  """Replaces a network's first weights by those of `model.pretrained`.

  Args:
    model: The config's section.
    variables: A tree of fresh variables, parameters and statistics, in which
      trunks, heads and attention stages may stand anywhere.
    leave: Names of modules under which everything stays as it is. Heads do
      unless `model.pretrained_head`.

  Returns:
    The tree, and what was done.

  Raises:
    InputError: for a file that cannot be read, is of another network, or has
      another number of classes where the head is wanted.
  """
  keras_layer = models.find(model.name).keras_layer
  tensors = weight_files.read(model.pretrained)
  leave = {*leave, *(() if model.pretrained_head else ('head',))}
  taken, missing, unfit = {}, {}, {}
  paths, fresh = [], []  # Of the parameters that are taken, and are not.
  leaves, structure = jax.tree_util.tree_flatten_with_path(variables)
  values = []
  for keys, leaf in leaves:
    path = tuple(key.key for key in keys)
    part = next((i for i, name in enumerate(path) if name in PARTS), None)
    if part is None or leave & {*path}:
      if path[0] == 'params':
        fresh.append(path[1:])
      values.append(leaf)
      continue
    layer = keras_layer(path[part:-1])
    names = _BATCH_NORM if layer.endswith('bn') else {}
    name = layer, names.get(path[-1], path[-1])
    value = _laid_out(tensors.get(name), leaf.shape)
    if value is None:
      missing[name] = f'{layer} {name[1]}'
    elif value.shape != leaf.shape:
      unfit[name] = (
          f'{layer} {name[1]} ({value.shape} in the file, {leaf.shape} here)'
      )
    else:
      taken[name] = value
      paths.append(path[1:])
      leaf = value.astype(leaf.dtype)
    values.append(leaf)
  if missing or unfit:
    raise _misfit(model, tensors, missing, unfit)
  layers = {layer for layer, _ in taken}
  trunk = [
      taken[name].tobytes() for name in sorted(taken) if name[0] != LAST_LAYER
  ]
  kept = {id(leaf) for _, leaf in leaves}
  new = [value for value in values if id(value) not in kept]
  report = Report(
      path=model.pretrained,
      digest=hashlib.sha256(b''.join(trunk)).hexdigest(),
      loaded=len(new),
      parameters=sum(value.size for value in new),
      left=tuple(dict.fromkeys(
          layer for layer, _ in tensors if layer not in layers
      )),
      fresh=_modules(fresh, paths),
  )
  return jax.tree.unflatten(structure, values), report


def _modules(
    fresh: Iterable[tuple[str, ...]], taken: Iterable[tuple[str, ...]]
) -> tuple[str, ...]:
  """Names what starts at random: 'decoder', or 'lep/code' of what does in part.

  Args:
    fresh: Paths of the parameters that start at random.
    taken: Paths of those that do not.
  """
  mixed = {path[0] for path in taken}
  return tuple(dict.fromkeys(
      '/'.join(path[: 2 if path[0] in mixed else 1]) for path in fresh
  ))


def _laid_out(value: np.ndarray | None, shape) -> np.ndarray | None:
  """Brings a Keras kernel to Flax's layout."""
  if value is None or value.ndim != 4:
    return value
  height, width, channels, multiplier = value.shape
  if shape == (height, width, multiplier, channels) and multiplier == 1:
    return value.swapaxes(2, 3)  # Depthwise.
  if len(shape) == 2 and height == width == 1:
    return value[0, 0]  # A convolution that stands for a dense layer.
  return value


def _misfit(model, tensors, missing, unfit) -> InputError:
  """Says in which way a file is not of this network."""
  def few(names):
    more = f' and {len(names) - 3} more' if len(names) > 3 else ''
    return ', '.join(names[:3]) + more

  if {layer for layer, _ in (*missing, *unfit)} == {LAST_LAYER}:
    return InputError(
        f'The last layer in {model.pretrained} is missing or of another number '
        f'of classes: {few([*missing.values(), *unfit.values()])}. Leave it to '
        'start at random, with --config.model.pretrained_head=False.'
    )
  found = few([*dict.fromkeys(layer for layer, _ in tensors)])
  problems = [f'it lacks {few([*missing.values()])}'] if missing else []
  if unfit:
    problems.append(f'these have other shapes: {few([*unfit.values()])}')
  return InputError(
      f'{model.pretrained} is not of {model.name} with config.model.width='
      f'{model.width}: {"; ".join(problems)}. The file has {found or "nothing"}'
      f'. Give {models.find(model.name).published}, with '
      '--config.model.pretrained=FILE.'
  )
