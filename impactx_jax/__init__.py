"""IMPACTX in JAX and Flax: classifiers, and maps that explain them."""

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from impactx_jax.inference import Model

__version__ = '0.2.0.dev0'


def load(workdir: str | os.PathLike, method: str = '') -> 'Model':
  """Restores a trained network: `load(DIR).predict(images)`.

  Args:
    workdir: Of a run.
    method: A method that was trained there, or 'baseline'; '' for the one that
      the run's config names.

  Returns:
    An `impactx_jax.inference.Model`.
  """
  # Not above: checkpoints and JAX are for who needs them.
  from impactx_jax import inference  # pylint: disable=g-import-not-at-top

  return inference.load(workdir, method)
