"""A alone, widened to as many parameters as IMPACTX classifies with."""

from impactx_jax import models
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import decoding
from impactx_jax.methods import impactx
import jax
from ml_collections import ConfigDict


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds an A with as many parameters as M, LEP and C have together.

  They are what IMPACTX classifies with; D is not counted. The width of A's
  layers is what grows.

  Raises:
    InputError: if the backbone does not heed `config.model.width`.
  """
  classifier = models.create_classifier(config.model, problem.num_classes)
  network = impactx.create_network(
      config, problem, decoding.create(config, problem).module
  )

  def params(key):
    images = base.zeros(problem)
    scores, a = classifier.init_with_output(key, images)
    m = getattr(scores, config.method.m_output)
    branch = network.init(
        key, images, m, method=lambda net, x, m: net.classify(m, net.lep(x))
    )
    return a['params'], branch['params']

  shapes = jax.eval_shape(params, jax.random.key(0))
  wide = models.widened(
      config.model,
      problem.num_classes,
      problem.image_shape,
      sum(leaf.size for leaf in jax.tree.leaves(shapes)),
  )
  config = config.copy_and_resolve_references()
  config.model = wide
  return baseline.create(config, problem)


METHOD = base.Spec(
    create,
    'A, as many parameters',
    options=impactx.OPTIONS,
    check=impactx.check,
    from_scratch=True,
    published=lambda options: None,
)
