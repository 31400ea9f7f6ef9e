"""Layer-wise relevance propagation (Bach et al., 2015) of any JAX function.

The function is read from its operations; no layer has to be named. What each of
them does with relevance is in `lrp_rules`.
"""

import functools

from attribution.errors import check_number
from attribution.errors import InputError
from attribution.explainers import gradients
from attribution.explainers import lrp_rules
from attribution.explainers.batched import Program
from attribution.model_fn import ScoreFn
import jax
import jax.numpy as jnp


def lrp_epsilon(score_fn: ScoreFn, *, epsilon: float = 1e-6) -> Program:
  """Builds LRP-ε: every term counts, over their sum plus ε of its sign.

  With ε = 0, and ReLU or max pooling alone between linear layers, it is
  Input×Gradient. Biases keep their part.

  Args:
    score_fn: (variables, images float32 [B, H, W, C]) -> scores [B, K].
    epsilon: What weak sums are kept from, 0 or more.

  Raises:
    InputError: for an ε that cannot be, and, when it is called, for a function
      with an operation that has no rule.
  """
  check_number('epsilon', epsilon)
  return _program(score_fn, epsilon, split=False)


def lrp_alpha1_beta0(score_fn: ScoreFn, *, epsilon: float = 1e-6) -> Program:
  """Builds LRP with the positive terms of convolutions alone, and ε elsewhere.

  The α1β0 rule: what spoke against a feature that is there gets nothing. A
  scale and a shift that follow, such as BatchNorm's, belong to the convolution;
  biases get nothing.

  Args:
    score_fn: (variables, images float32 [B, H, W, C]) -> scores [B, K].
    epsilon: Of the other layers.

  Raises:
    InputError: as `lrp_epsilon` does.
  """
  check_number('epsilon', epsilon)
  return _program(score_fn, epsilon, split=True)


def _program(score_fn: ScoreFn, epsilon: float, split: bool) -> Program:
  def program(variables, images, classes):
    score = functools.partial(score_fn, variables)
    found = jax.make_jaxpr(score)(images)
    if len(found.jaxpr.outvars) != 1:
      raise InputError(
          f'The scoring function returns {len(found.jaxpr.outvars)} arrays; it '
          'must be one, scores [B, K].'
      )

    def rewritten(parts):
      rules = lrp_rules.Rules(epsilon, split, parts)
      image = lrp_rules.Terms(images, is_image=True)
      (scores,) = rules.run(found.jaxpr, found.consts, [image])
      if not isinstance(scores, lrp_rules.Terms):  # Whatever the image is.
        return scores + 0 * parts.sum()
      return rules.closed(scores)

    # A pixel's relevance is the slope of its part, of which there is one.
    return gradients.class_gradients(rewritten, jnp.ones_like(images), classes)

  return program
