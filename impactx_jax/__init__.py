"""IMPACTX in JAX and Flax: classifiers, and maps that explain them."""

__version__ = '0.2.0.dev0'


def load(workdir, method: str = ''):
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
