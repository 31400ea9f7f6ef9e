"""Checkpoints. No other file names Orbax.

A directory holds the steps that a run asks to keep, each with three items:
`variables` (of the network, params and collections), `training` (what else a
run continues from), and `meta` (JSON). Evaluation and attribution restore
`variables` alone, of the best step or of one of a front.
"""

from collections.abc import Collection
from collections.abc import Sequence
import hashlib
import os
from typing import Any

from attribution.errors import InputError
from etils import epath
from impactx_jax.methods import base
import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint import checkpoint_managers

DIRECTORY = 'checkpoints'


class _Kept(checkpoint_managers.PreservationPolicy):
  """Preserves the steps that the last call of `save` named."""

  steps: Collection[int] = ()

  def should_preserve(
      self, checkpoints: Sequence[Any], *, context: Any
  ) -> list[bool]:
    del context
    return [found.step in self.steps for found in checkpoints]


class Checkpoints:
  """The checkpoints of one training run; a context manager."""

  def __init__(self, directory: epath.PathLike):
    """Opens `directory`, and creates it where it does not exist."""
    self._kept = _Kept()
    self._manager = ocp.CheckpointManager(
        absolute(directory) / DIRECTORY,
        options=ocp.CheckpointManagerOptions(
            create=True,
            enable_async_checkpointing=False,
            preservation_policy=self._kept,
        ),
    )

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *_) -> None:
    self._manager.close()

  def save(
      self, step: int, state: Any, meta: Any, *, keep: Collection[int] = ()
  ) -> None:
    """Saves a state as host arrays, so that any number of devices can load it.

    Args:
      step: The number of updates made.
      state: With fields params, collections and opt_state.
      meta: JSON-compatible.
      keep: Earlier steps that are to stay beside this one; all others go.
    """
    self._kept.steps = {step, *keep}
    variables, training = _parts(jax.device_get(state))
    saved = self._manager.save(
        step,
        args=ocp.args.Composite(
            variables=ocp.args.StandardSave(variables),
            training=ocp.args.StandardSave(training),
            meta=ocp.args.JsonSave(meta),
        ),
    )
    if not saved:
      raise RuntimeError(f'Step {step} was not saved: it is there already.')

  def restore_latest(self, state: Any) -> tuple[Any, Any] | None:
    """Returns the latest (state, meta), or None where nothing was saved.

    Args:
      state: A state of the right structure, shapes and dtypes.

    Raises:
      InputError: if it is damaged, or of another training.
    """
    step = self._manager.latest_step()
    if step is None:
      return None
    variables, training = _parts(jax.device_get(state))
    try:
      restored = self._manager.restore(
          step,
          args=ocp.args.Composite(
              variables=ocp.args.StandardRestore(variables),
              training=ocp.args.StandardRestore(training),
              meta=ocp.args.JsonRestore(),
          ),
      )
    except (ValueError, KeyError, FileNotFoundError) as error:
      path = self._manager.directory / str(step)
      raise InputError(
          f'The checkpoint {path} is damaged, or not of this training: '
          f'{_first_line(error)} Delete it to continue from the one before, '
          f'or {path.parent} to begin again, and run the same command.'
      ) from error
    restored_state = state.replace(
        step=np.asarray(step, np.int32),
        params=restored['variables']['params'],
        collections={
            **restored['variables']['collections'],
            **restored['training']['collections'],
        },
        opt_state=restored['training']['opt_state'],
    )
    return restored_state, restored['meta']


def _parts(state: Any) -> tuple[Any, Any]:
  """Cuts a state into the network's variables and what only training needs."""
  kept = base.without_scratch(state.collections)
  rest = {n: c for n, c in state.collections.items() if n not in kept}
  return (
      {'params': state.params, 'collections': kept},
      {'opt_state': state.opt_state, 'collections': rest},
  )


def restore_variables(
    directory: epath.PathLike, step: int, variables: Any
) -> Any:
  """Restores the variables of one step, for evaluation or attribution.

  Args:
    directory: Of the training run.
    step: Which of its checkpoints.
    variables: A tree {'params', 'collections'} of arrays or of
      `jax.ShapeDtypeStruct`s, as the checkpoint should hold.

  Returns:
    The same tree of NumPy arrays.

  Raises:
    InputError: if there is no such checkpoint, or not of this network.
  """
  path = absolute(directory) / DIRECTORY
  target = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), variables)
  if not (path / str(step)).exists():
    raise InputError(
        f'There is no checkpoint of step {step} in {path}. Train again with a '
        'fresh --workdir, or restore the folder.'
    )
  try:
    with ocp.StandardCheckpointer() as checkpointer:
      restored = checkpointer.restore(path / str(step) / 'variables', target)
  except (ValueError, KeyError, FileNotFoundError) as error:
    raise InputError(
        f'The checkpoint {path}/{step} does not hold the network that its '
        f'config describes, or is damaged: {_first_line(error)}'
    ) from error
  return restored


def _first_line(error: Exception) -> str:
  return next(iter(str(error).splitlines()), type(error).__name__)


def digest(variables: Any) -> str:
  """Returns the SHA-256 over all leaves with their paths and dtypes."""
  sha = hashlib.sha256()
  for path, leaf in jax.tree_util.tree_leaves_with_path(variables):
    leaf = np.asarray(leaf)
    name = jax.tree_util.keystr(path)
    sha.update(f'{name}:{leaf.dtype}:{leaf.shape};'.encode())
    sha.update(leaf.tobytes())
  return sha.hexdigest()


def absolute(path: epath.PathLike) -> epath.Path:
  """Makes a local path absolute, as Orbax needs; leaves gs:// alone."""
  text = os.fspath(path)
  if '://' in text:
    return epath.Path(text)
  return epath.Path(os.path.abspath(os.path.expanduser(text)))
