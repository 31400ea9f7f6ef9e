"""A branch that is trained beside M, which stays as stage one left it."""

from collections.abc import Callable
from typing import Any

from flax import linen as nn
from impactx_jax.methods import base
from impactx_jax.methods import baseline
import jax
import jax.numpy as jnp

M_OUTPUTS = ('logits', 'features')
FROZEN = 'classifier'  # The collection that holds M's variables.


def create(
    config, task: base.Task, network: nn.Module
) -> tuple[Callable[..., Any], Callable[..., Any]]:
  """Builds the two functions that a method of stage two is made of.

  Args:
    config: The whole config; `config.model` and `method.m_output` are read.
    task: The data's shapes, and the stage-one classifier.
    network: The branch: (inputs, M's output [B, F], train) -> outputs.

  Returns:
    init: (rng, inputs) -> (params, collections), M among the latter.
    apply: (params, collections, images, inputs, rng) -> (outputs,
      collections); with an rng as in training, with None as in use.
  """
  m_scores = baseline.from_variables(config, task.num_classes)

  def m_output(collections, images):
    scores = m_scores(collections[FROZEN], images)
    return getattr(scores, config.method.m_output)

  def init(rng, inputs):
    frozen = {FROZEN: jax.tree.map(jnp.asarray, task.classifier)}
    m = m_output(frozen, base.zeros(task))
    variables = dict(network.init(rng, inputs, m))
    return variables.pop('params'), variables | frozen

  def apply(params, collections, images, inputs, rng=None):
    train = rng is not None
    own = of_branch(collections)
    outputs, own = network.apply(
        {'params': params, **own},
        inputs,
        m_output(collections, images),
        train,
        mutable=list(own) if train else [],
        rngs={'dropout': rng} if train else None,
    )
    return outputs, {**own, FROZEN: collections[FROZEN]}

  return init, apply


def of_branch(collections: dict[str, Any]) -> dict[str, Any]:
  """Returns the collections of the branch itself."""
  return {name: c for name, c in collections.items() if name != FROZEN}
