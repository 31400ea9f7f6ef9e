"""What each operation of a function does with relevance.

What a class's score is made of is handed back, layer by layer, to the image: at
each layer in proportion to what its inputs gave. Written as gradients,
relevance is a value times its slope, so that only slopes need to be others:
those of activations become their output over their input, a gate that
multiplies a signal gets nothing, whatever is linear between two of them is one
layer, and a rule says which of its terms count.
"""

from typing import Any, NamedTuple

from attribution.errors import InputError
import jax
from jax import lax
from jax.extend import core
import jax.numpy as jnp

# Operations of one value that depends on the image, and constants.
ACTIVATIONS = ('max', 'min', 'clamp', 'tanh', 'logistic', 'erf', 'abs')
# Functions of a name that is theirs, of one value, made of other operations.
NAMED = ('silu', 'swish', 'gelu', 'softplus', 'leaky_relu', 'elu', 'relu6')
PRODUCTS = ('conv_general_dilated', 'dot_general')
# Sums of their inputs, each times 1 or 0 or a share: the positive terms of what
# they give are those of what they are given.
MOVES = (
    'reshape', 'transpose', 'pad', 'slice', 'squeeze', 'broadcast_in_dim',
    'reduce_sum', 'reduce_window_sum', 'concatenate', 'rev',
    'convert_element_type', 'copy', 'copy_p', 'gather', 'dynamic_slice',
    'stack', 'tile',
)
# Of which one input is passed on, that which is largest: as its gradient does.
CHOICES = ('reduce_max', 'reduce_window_max', 'select_n', 'stop_gradient')
CALLS = ('jit', 'pjit', 'closed_call', 'custom_jvp_call', 'custom_vjp_call',
         'remat', 'checkpoint', 'remat2')
SMALLEST = 1e-30


class Terms(NamedTuple):
  """A value that depends on the image, and what it is a sum of.

  Attributes:
    value: As the function has it.
    positive: The sum of its positive terms; None where it is its own term.
    negative: Of the negative ones, without their sign.
    is_gate: Whether it is a sigmoid, which multiplies what is the signal.
    is_image: Whether it is the image, as it is or each pixel shifted and scaled
      by constants.
  """

  value: jax.Array
  positive: jax.Array | None = None
  negative: jax.Array | None = None
  is_gate: bool = False
  is_image: bool = False

  def both(self) -> tuple[jax.Array, jax.Array]:
    """Returns the positive and the negative terms."""
    if self.positive is not None:
      return self.positive, self.negative
    return jax.nn.relu(self.value), jax.nn.relu(-self.value)


class Rules(NamedTuple):
  """Evaluates operations, with the slopes of relevance.

  Attributes:
    epsilon: Of the ε rule.
    split: Whether convolutions have the α1β0 rule.
    parts: Ones [B, H, W, C], which the image is multiplied by where the network
      first takes it: after a normalisation, if it begins with one.
  """

  epsilon: float
  split: bool
  parts: jax.Array

  def run(self, jaxpr, constants, arguments) -> list[Any]:
    """Evaluates a jaxpr of arrays and Terms."""
    known = dict(zip(
        (*jaxpr.constvars, *jaxpr.invars), (*constants, *arguments),
        strict=True,
    ))

    def read(atom):
      return atom.val if isinstance(atom, core.Literal) else known[atom]

    for equation in jaxpr.eqns:
      inputs = [read(atom) for atom in equation.invars]
      if any(isinstance(x, Terms) for x in inputs):
        outputs = self.dependent(equation, inputs)
      else:
        outputs = _bind(equation, inputs)
      for variable, x in zip(equation.outvars, outputs, strict=True):
        # What is no number, such as which one is larger, is a constant.
        if isinstance(x, Terms) and not _is_float(x):
          x = x.value
        known[variable] = x
    return [read(atom) for atom in jaxpr.outvars]

  def dependent(self, equation, inputs) -> list[Any]:
    """Evaluates an operation of which an input depends on the image."""
    name, params = equation.primitive.name, equation.params
    which = [isinstance(x, Terms) for x in inputs]
    if name not in (*CALLS, 'cond'):
      if _is_of_pixels(equation, inputs, self.parts.shape):
        return [
            Terms(x, is_image=True)
            for x in _bind(equation, [_value(x) for x in inputs])
        ]
      inputs = [self._taken(x) for x in inputs]
    if name == 'cond' and not which[0]:
      return self._cond(equation, inputs)
    if name in CALLS:
      if str(params.get('name', '')).strip('_') in NAMED and sum(which) == 1:
        return [self._activated(equation, inputs)]
      return self.run(*_inner(params), inputs)
    if name in ACTIVATIONS and sum(which) == 1:
      return [self._activated(equation, inputs)]
    if name in PRODUCTS and sum(which) == 1:
      return [self._product(equation, inputs)]
    if name in ('mul', 'div') and sum(which) == 1 and (
        name == 'mul' or which[0]
    ):
      return [_scaled(equation, inputs)]
    if name == 'mul' and sum(which) == 2 and (
        sum(x.is_gate for x in inputs) == 1
    ):
      # All of it is the signal's (Arras et al., 2017).
      fixed = [x.value if x.is_gate else x for x in inputs]
      return [_scaled(equation, [
          x if isinstance(x, Terms) else lax.stop_gradient(x) for x in fixed
      ])]
    if name in ('add', 'sub', 'add_any', 'neg'):
      return [_added(equation, inputs)]
    if name in MOVES:
      return [_moved(equation, inputs)]
    if name in (*CHOICES, 'max', 'min') or not any(
        _is_float(variable.aval) for variable in equation.outvars
    ):
      plain = [self.closed(x) if isinstance(x, Terms) else x for x in inputs]
      return [Terms(x) for x in _bind(equation, plain)]
    raise InputError(
        f'Layer-wise relevance propagation has no rule for {name!r}'
        + (' of two values that depend on the image' if sum(which) > 1 else '')
        + '. It explains scores before a softmax or a sigmoid, of networks of '
        'convolutions, dense layers, pooling, normalisation with fixed '
        'statistics, and activations; choose another explainer for this one.',
        'explainer', 'NAME',
    )

  def _taken(self, x):
    """Of the image its parts, by which relevance is told; else as it is."""
    if isinstance(x, Terms) and x.is_image and _is_float(x):
      return Terms(x.value * self.parts.astype(x.value.dtype))
    return x

  def closed(self, terms: Terms) -> jax.Array:
    """Returns the value, with the slopes of the rule that its terms are under.

    That is the end of a layer: what follows takes it as one number.
    """
    value, positive, *_ = self._taken(terms)
    if positive is None:
      return _sloped(value, value, _ratio(value, value, self.epsilon))
    return _sloped(value, positive, _ratio(value, positive, 0.0))

  def _activated(self, equation, inputs) -> Terms:
    plain = [_value(x) for x in inputs]
    (before,) = (x for x in inputs if isinstance(x, Terms))
    (after,) = _bind(equation, plain)
    value, positive, *_ = before
    gate = equation.primitive.name == 'logistic'
    if positive is None:
      positive, factor = value, _ratio(after, value, self.epsilon)
    else:
      factor = _ratio(after, positive, 0.0)
    return Terms(_sloped(after, positive, factor), is_gate=gate)

  def _product(self, equation, inputs) -> Terms:
    place = next(i for i, x in enumerate(inputs) if isinstance(x, Terms))
    # Every product is a layer: what it is of is one number for it. Where only
    # linear layers follow each other, ε is the last one's.
    given = inputs[place]
    data = self.closed(given) if given.positive is not None else given.value
    weights = inputs[1 - place]

    def of(x, w):
      (found,) = _bind(equation, [x, w] if place == 0 else [w, x])
      return found

    value = of(data, weights)
    if not self.split or equation.primitive.name == 'dot_general':
      return Terms(value)
    more, less = (jnp.maximum(data, 0), jnp.minimum(data, 0))
    up, down = (jnp.maximum(weights, 0), jnp.minimum(weights, 0))
    return Terms(
        value, of(more, up) + of(less, down), -of(more, down) - of(less, up)
    )

  def _cond(self, equation, inputs):
    """Takes the branch that is for every platform, or chooses among them."""
    index, *operands = inputs
    branches = equation.params['branches']
    if isinstance(index, _Platform):
      branch = branches[index.default]
      return self.run(branch.jaxpr, branch.consts, operands)
    raise InputError(
        'Layer-wise relevance propagation has no rule for a choice between '
        'branches that is made while it runs; choose another explainer.',
        'explainer', 'NAME',
    )


class _Platform(NamedTuple):
  """Which branch is for the platform that is compiled for.

  Attributes:
    default: That of any other.
  """

  default: int


def _bind(equation, inputs) -> list[Any]:
  """Evaluates an operation as it is."""
  name, params = equation.primitive.name, equation.params
  if name == 'platform_index':
    return [_Platform(params['platforms'].index(None))]
  if name == 'cond' and isinstance(inputs[0], _Platform):
    branch = params['branches'][inputs[0].default]
    return core.jaxpr_as_fun(branch)(*inputs[1:])
  if name in CALLS:
    jaxpr, constants = _inner(params)
    return core.jaxpr_as_fun(core.ClosedJaxpr(jaxpr, constants))(*inputs)
  found = equation.primitive.bind(*inputs, **params)
  return found if equation.primitive.multiple_results else [found]


def _inner(params) -> tuple[core.Jaxpr, Any]:
  """Returns the operations that a call is of, and their constants."""
  found = params.get('jaxpr', params.get('call_jaxpr'))
  return getattr(found, 'jaxpr', found), getattr(found, 'consts', ())


def _value(x):
  return x.value if isinstance(x, Terms) else x


def _is_float(x) -> bool:
  """Whether it is a number, of which there are terms."""
  x = _value(x)
  return jnp.issubdtype(getattr(x, 'dtype', type(x)), jnp.inexact)


def _is_of_pixels(equation, inputs, shape) -> bool:
  """Whether an operation shifts or scales each pixel of the image by itself."""
  name, images = equation.primitive.name, [x for x in inputs if _is_image(x)]
  pixels = name in ('add', 'sub', 'neg', 'mul', 'convert_element_type') or (
      name == 'div' and _is_image(inputs[0])
  )
  return (
      pixels and len(images) == 1 == sum(isinstance(x, Terms) for x in inputs)
      and equation.outvars[0].aval.shape == shape
      and _is_float(equation.outvars[0].aval)
  )


def _is_image(x) -> bool:
  return isinstance(x, Terms) and x.is_image


def _moved(equation, inputs) -> Terms:
  """Of an operation that adds, copies and moves: each part by itself."""
  parts = [x if isinstance(x, Terms) else Terms(x) for x in inputs]
  floats = [_is_float(x) for x in inputs]

  def of(chosen):
    (found,) = _bind(equation, chosen)
    return found

  value = of([part.value for part in parts])
  if all(part.positive is None for part in parts):
    return Terms(value, is_gate=all(part.is_gate for part in parts))
  found = [
      of([
          part.both()[i] if is_float else part.value
          for part, is_float in zip(parts, floats, strict=True)
      ])
      for i in (0, 1)
  ]
  return Terms(value, *found)


def _scaled(equation, inputs) -> Terms:
  """Of a product with, or a quotient by, a constant."""
  place = next(i for i, x in enumerate(inputs) if isinstance(x, Terms))
  terms, other = inputs[place], inputs[1 - place]

  def of(x, constant):
    (found,) = _bind(equation, [x, constant] if place == 0 else [constant, x])
    return found

  value = of(terms.value, other)
  if terms.positive is None:
    return Terms(value)
  size, there = jnp.abs(other), jnp.asarray(other) > 0
  up, down = (of(x, size) for x in terms.both())
  return Terms(
      value, jnp.where(there, up, down), jnp.where(there, down, up)
  )


def _added(equation, inputs) -> Terms:
  """Of a sum or a difference: the terms of each; constants have none."""
  (value,) = _bind(equation, [_value(x) for x in inputs])
  found = [(i, x) for i, x in enumerate(inputs) if isinstance(x, Terms)]
  if all(x.positive is None for _, x in found):
    return Terms(value)
  flips = {'sub': (False, True), 'neg': (True,)}.get(
      equation.primitive.name, (False, False)
  )
  positive = negative = jnp.zeros_like(value)
  for i, terms in found:
    up, down = terms.both()[::-1] if flips[i] else terms.both()
    positive, negative = positive + up, negative + down
  return Terms(value, positive, negative)


def _sloped(value, of, factor) -> jax.Array:
  """The value, with the slopes of something else times a factor."""
  fixed, precise = lax.stop_gradient, factor.dtype
  slope = (of - fixed(of)).astype(precise) * fixed(factor)
  return fixed(value) + slope.astype(value.dtype)


def _ratio(numerator, denominator, epsilon) -> jax.Array:
  """Their quotient, kept from 0 by ε, in float32; 0 where both are 0."""
  precise = jnp.promote_types(numerator.dtype, jnp.float32)
  numerator, denominator = (
      x.astype(precise) for x in (numerator, denominator)
  )
  signed = jnp.where(denominator < 0, -1.0, 1.0) * epsilon
  moved = denominator + signed
  empty = jnp.abs(moved) < SMALLEST
  return jnp.where(empty, 0, numerator / jnp.where(empty, 1, moved))
