"""Two-stage IMPACTX: learn to predict A's maps, and classify with the code."""

from impactx_jax import losses
from impactx_jax import models
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import second_branch
from impactx_jax.models import impactx as networks
import jax
import jax.numpy as jnp

LEP_INITS = ('like_classifier', 'from_classifier', 'scratch')
MAPS = ('true_class', 'shuffled', 'random', 'other_class')


def create(config, task: base.Task) -> base.Method:
  """Builds LEP, D and C around the frozen M (IMPACTX, section 3.3).

  Args:
    config: The whole config; `config.model` and `config.method` are read.
    task: The data's shapes, and the stage-one classifier.
  """
  options = config.method
  network = create_network(config, task)
  init_branch, apply = second_branch.create(config, task, network)

  def init(rng):
    params, collections = init_branch(rng, base.zeros(task))
    if options.lep_init == 'from_classifier':
      a = collections[second_branch.FROZEN]
      params = _with_trunk(params, a['params'])
      if 'batch_stats' in collections:
        collections['batch_stats'] = _with_trunk(
            collections['batch_stats'], a['collections']['batch_stats']
        )
    return params, collections

  def loss(params, collections, batch, rng):
    (logits, cells), collections = apply(
        params, collections, batch['image'], batch['image'], rng
    )
    total, metrics = equation_1(logits, cells, batch, options)
    return total.mean(), base.Aux(collections, metrics)

  def predict(variables, images):
    (logits, cells), _ = apply(
        variables['params'], variables['collections'], images, images
    )
    return base.Prediction(logits, losses.spread(cells, options.map_cell))

  def layers(variables):
    collections = variables['collections']
    m = collections[second_branch.FROZEN]
    own = second_branch.of_branch(collections)
    return cut(
        models.create_classifier(config.model, task.num_classes),
        {'params': m['params'], **m['collections']},
        network,
        {'params': variables['params'], **own},
        options.m_output,
    )

  return base.Method(init, loss, predict, layers=layers)


def _with_trunk(branch, classifier):
  """Gives LEP the trunk of A."""
  return {**branch, 'lep': {**branch['lep'], 'trunk': classifier['trunk']}}


def cut(classifier, m_variables, network, variables, m_output: str):
  """Cuts IMPACTX after the last convolutions of M and LEP, for Grad-CAM.

  Args:
    classifier: M, a models.Classifier.
    m_variables: Of M, as Flax takes them.
    network: LEP, D and C.
    variables: Of these, as Flax takes them.
    m_output: What C sees of M.

  Returns:
    Images -> the features of both trunks [B, h, w, 2 F], and these -> logits.
  """
  m_features, m_scores = baseline.cut(classifier, m_variables)

  def features(images):
    lep = network.apply(
        variables, images, method=lambda net, x: net.lep.trunk(x)
    )
    return jnp.concatenate([m_features(images), lep], axis=-1)

  def logits(features):
    of_m, of_lep = jnp.split(features, 2, axis=-1)
    return network.apply(
        variables,
        of_lep,
        getattr(m_scores(of_m), m_output),
        method=lambda net, x, m: net.classify(m, net.lep.encode(x)),
    )

  return features, logits


def create_network(config, task: base.Task) -> networks.ImpactX:
  """Returns LEP, D and C as the config describes them; D predicts cells."""
  options = config.method
  height, width, channels = base.map_shape(options, task.image_shape)
  cells = height // options.map_cell, width // options.map_cell
  return networks.ImpactX(
      lep=networks.LatentExplanationPredictor(
          models.create_trunk(config.model),
          options.lep_units,
          models.find(config.model.name).pool,
      ),
      decoder=networks.Decoder(
          (*cells, channels),
          decoder_start(options, height),
          options.decoder_filters,
      ),
      num_classes=task.num_classes,
      hidden=options.classifier_hidden,
  )


def decoder_start(options, height: int) -> int:
  """Returns the height of the decoder's smallest feature maps.

  Cells of several pixels may be fewer than `config.method.decoder_start`, and
  are then predicted at once; a start beyond the image's height stays, to be
  refused.
  """
  cells = height // options.map_cell
  start = options.decoder_start
  return min(start, cells) if start <= height else start


def equation_1(
    logits: jax.Array, cells: jax.Array, batch: base.Batch, options
) -> tuple[jax.Array, base.Metrics]:
  """The loss of IMPACTX, CE + lambda MSE (equation 1).

  Args:
    logits: Of C, [B, K].
    cells: Of D, [B, h, w, C'].
    batch: With `label` [B] and `map` [B, H, W, C'], scaled, without which the
      loss is CE; with `has_map` [B] as well, the MSE counts where it is 1.
    options: `config.method`.

  Returns:
    The loss of each example [B], and the metrics.
  """
  classification = losses.cross_entropy(logits, batch['label'])
  total, metrics = classification, {}
  if 'map' in batch:
    target = losses.pool(batch['map'], options.map_cell)
    has_map = batch.get('has_map', jnp.ones_like(classification))
    mse = losses.map_mse(cells, target) * has_map
    total += options.lambda_ * mse
    metrics['map_mse'] = mse.sum(), has_map.sum()
  return total, metrics | base.mean_metrics(
      loss=total,
      cross_entropy=classification,
      accuracy=logits.argmax(-1) == batch['label'],
  )


def matched_baseline(config, task: base.Task) -> base.Method:
  """Builds an A with as many parameters as M, LEP and C have together.

  They are what IMPACTX classifies with; D is not counted. The width of A's
  layers is what grows.
  """
  classifier = models.create_classifier(config.model, task.num_classes)
  network = create_network(config, task)

  def params(rng):
    images = base.zeros(task)
    scores, a = classifier.init_with_output(rng, images)
    m = getattr(scores, config.method.m_output)
    branch = network.init(
        rng, images, m, method=lambda net, x, m: net.classify(m, net.lep(x))
    )
    return a['params'], branch['params']

  shapes = jax.eval_shape(params, jax.random.key(0))
  ours = sum(leaf.size for leaf in jax.tree.leaves(shapes))
  return baseline.create(baseline.widened(config, task, ours), task)
