"""Two-stage IMPACTX: learn to predict A's maps, and classify with the code."""

from impactx_jax import losses
from impactx_jax import models
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.models import impactx as networks
import jax
import jax.numpy as jnp

M_OUTPUTS = ('logits', 'features')
LEP_INITS = ('like_classifier', 'from_classifier', 'scratch')


def create(config, task: base.Task) -> base.Method:
  """Builds LEP, D and C around the frozen M (IMPACTX, section 3.3).

  Args:
    config: The whole config; `config.model` and `config.method` are read.
    task: The data's shapes, and the stage-one classifier.
  """
  options = config.method
  m_scores = baseline.from_variables(config, task.num_classes)
  network = networks.ImpactX(
      lep=networks.LatentExplanationPredictor(
          models.create_trunk(config.model), options.lep_units
      ),
      decoder=networks.Decoder(
          (*task.image_shape[:2], task.map_channels),
          options.decoder_start,
          options.decoder_filters,
      ),
      num_classes=task.num_classes,
      hidden=options.classifier_hidden,
  )

  def m_output(collections, images):
    scores = m_scores(collections['classifier'], images)
    return getattr(scores, options.m_output)

  def init(rng):
    images = jnp.zeros((1, *task.image_shape), jnp.float32)
    classifier = jax.tree.map(jnp.asarray, task.classifier)
    m = m_output({'classifier': classifier}, images)
    variables = dict(network.init(rng, images, m))
    params = variables.pop('params')
    if options.lep_init == 'from_classifier':
      trunk = classifier['params']['trunk']
      params = {**params, 'lep': {**params['lep'], 'trunk': trunk}}
    return params, {**variables, 'classifier': classifier}

  def apply(params, collections, images, train):
    own = {k: v for k, v in collections.items() if k != 'classifier'}
    outputs, own = network.apply(
        {'params': params, **own},
        images,
        m_output(collections, images),
        train,
        mutable=list(own) if train else [],
    )
    return *outputs, {**own, 'classifier': collections['classifier']}

  def loss(params, collections, batch, rng):
    del rng
    logits, maps, collections = apply(
        params, collections, batch['image'], train=True
    )
    classification = losses.cross_entropy(logits, batch['label'])
    mse = losses.map_mse(maps, batch['map'])
    total = classification + options.lambda_ * mse  # Equation 1.
    metrics = base.mean_metrics(
        loss=total,
        cross_entropy=classification,
        map_mse=mse,
        accuracy=logits.argmax(-1) == batch['label'],
    )
    return total.mean(), base.Aux(collections, metrics)

  def predict(variables, images):
    logits, maps, _ = apply(
        variables['params'], variables['collections'], images, train=False
    )
    return base.Prediction(logits, maps)

  return base.Method(init, loss, predict, uses_maps=True)
