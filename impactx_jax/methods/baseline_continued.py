"""A, trained further: what stage two's passes are worth without a branch."""

import dataclasses

from impactx_jax.methods import base
from impactx_jax.methods import baseline
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds an A that starts from stage one's, and is trained as stage two is.

  Args:
    config: `config.model` is read.
    problem: What is known of the data.
  """

  def init(key, classifier):
    del key
    a = jax.tree.map(jnp.asarray, classifier)
    return a['params'], a['collections']

  return dataclasses.replace(baseline.create(config, problem), init=init)


METHOD = base.Spec(
    create,
    'A, trained further',
    published=lambda options: None,  # A has had them.
)
