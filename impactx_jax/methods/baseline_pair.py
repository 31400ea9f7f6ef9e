"""A and another A, averaged: what a second branch is worth by itself."""

from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import second_branch
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds a second A, trained from the start as stage two is, beside M.

  It learns by itself; the answer is the average of both networks'
  probabilities.

  Args:
    config: `config.model` is read.
    problem: What is known of the data.
  """
  second = baseline.create(config, problem)
  m_scores = baseline.from_variables(config, problem.num_classes)

  def init(key, classifier):
    # With A's own key, and as many epochs, it would become A once more.
    params, collections = second.init(jax.random.fold_in(key, 1))
    frozen = jax.tree.map(jnp.asarray, dict(classifier))
    return params, collections | {second_branch.FROZEN: frozen}

  def loss(params, collections, batch, key):
    value, aux = second.loss(
        params, second_branch.of_branch(collections), batch, key
    )
    frozen = {second_branch.FROZEN: collections[second_branch.FROZEN]}
    return value, aux._replace(collections=aux.collections | frozen)

  def predict(variables, batch):
    collections = variables['collections']
    own = variables | {'collections': second_branch.of_branch(collections)}
    first = m_scores(collections[second_branch.FROZEN], batch['image'])
    return base.Prediction(second.task.average(
        first.logits, second.predict(own, batch).logits
    ))

  return base.Method(
      second.task, init, loss, predict,
      parts={
          'M': (('collections', second_branch.FROZEN),),
          'the second': (('params',),),
      },
  )


METHOD = base.Spec(
    create,
    'two A, averaged',
    published=lambda options: (second_branch.FROZEN,),
)
