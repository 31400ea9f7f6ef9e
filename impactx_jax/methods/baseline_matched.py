"""A alone, widened to the size of what IMPACTX classifies with."""

from collections.abc import Callable
import math
from typing import Any, NamedTuple

from impactx_jax import bounds
from impactx_jax import models
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import decoding
from impactx_jax.methods import impactx
import jax
from ml_collections import ConfigDict


class Network(NamedTuple):
  """What has a size.

  Attributes:
    init: key -> variables.
    apply: (variables, images) -> outputs.
  """

  init: Callable[[jax.Array], Any]
  apply: Callable[[Any, jax.Array], Any]


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds an A of the size that M, LEP and C have together.

  They are what IMPACTX classifies with; D is not counted. The width of A's
  layers is what grows.

  Args:
    config: `config.model` and `config.method` are read, `matched` for what the
      size is.
    problem: What is known of the data.

  Raises:
    InputError: if the backbone does not heed `config.model.width`.
  """
  images, size = base.zeros(problem), SIZES[config.method.matched]

  def alone(model: ConfigDict) -> Network:
    classifier = models.create_classifier(model, problem.num_classes)
    return Network(lambda key: classifier.init(key, images), classifier.apply)

  config = config.copy_and_resolve_references()
  config.model = models.widened(
      config.model,
      size(_impactx(config, problem, alone(config.model)), images),
      lambda model: size(alone(model), images),
  )
  return baseline.create(config, problem)


def _impactx(
    config: ConfigDict, problem: base.Problem, classifier: Network
) -> Network:
  """Returns M, LEP and C as one."""
  branch = impactx.create_network(
      config, problem, decoding.create(config, problem).module
  )

  def m_output(variables, images):
    scores = classifier.apply(variables, images)
    return getattr(scores, config.method.m_output)

  def classify(net, images, m):
    return net.classify(m, net.lep(images))

  def init(key):
    images = base.zeros(problem)
    a = classifier.init(key)
    return a, branch.init(key, images, m_output(a, images), method=classify)

  def apply(variables, images):
    a, own = variables
    return branch.apply(own, images, m_output(a, images), method=classify)

  return Network(init, apply)


def parameters(network: Network, images: jax.Array) -> int:
  """Counts what a network is trained in."""
  del images
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  return sum(
      leaf.size
      for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)
      if jax.tree_util.DictKey('params') in path
  )


def flops(network: Network, images: jax.Array) -> int:
  """Counts multiplications and additions of a forward pass.

  Those of convolutions and of products of matrices: all but a few.
  """
  shapes = jax.eval_shape(network.init, jax.random.key(0))
  return _operations(jax.make_jaxpr(network.apply)(shapes, images).jaxpr)


def _operations(jaxpr: Any) -> int:
  total = 0
  for equation in jaxpr.eqns:
    name, (output, *_) = equation.primitive.name, equation.outvars
    size = 2 * math.prod(output.aval.shape)
    if name == 'dot_general':
      (summed, _), _ = equation.params['dimension_numbers']
      shape = equation.invars[0].aval.shape
      total += size * math.prod(shape[i] for i in summed)
    elif name == 'conv_general_dilated':
      kernel = equation.invars[1].aval.shape
      of_filters, *_ = equation.params['dimension_numbers'].rhs_spec
      total += size * math.prod(kernel) // kernel[of_filters]
    else:
      inner = [_operations(x) for x in _inside(equation.params)]
      # Of two forms of the same, one is computed.
      total += max(inner) if name == 'cond' else sum(inner)
  return total


def _inside(params: dict[str, Any]) -> list[Any]:
  """Returns the jaxprs among an equation's parameters."""
  flat = [
      x for value in params.values()
      for x in (value if isinstance(value, tuple | list) else (value,))
  ]
  found = [getattr(x, 'jaxpr', x) for x in flat]
  return [x for x in found if hasattr(x, 'eqns')]


SIZES = {'parameters': parameters, 'flops': flops}
BOUNDS: bounds.Bounds = {
    'matched': bounds.Choice('size that is matched', tuple(SIZES)),
}


def check(config: ConfigDict) -> None:
  """Raises InputError for a `config.method` of which it cannot be made."""
  bounds.check(config.method, impactx.BOUNDS | BOUNDS, 'config.method')


METHOD = base.Spec(
    create,
    'A, as many parameters',
    options=impactx.OPTIONS | {
        # What a wider A has as much of as IMPACTX: 'parameters' or 'flops'.
        'matched': 'parameters',
    },
    check=check,
    from_scratch=True,
    published=lambda options: None,
)
CONTROLS = {
    'baseline_matched_flops': METHOD.variant(
        'A, as many FLOPs', matched='flops'
    ),
}
