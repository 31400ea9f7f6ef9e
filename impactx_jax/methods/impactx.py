"""Two-stage IMPACTX: learn to predict A's maps, and classify with the code."""

from collections.abc import Callable
from typing import Any

from attribution import explainers
from flax import linen as nn
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.data import maps as map_data
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import decoding
from impactx_jax.methods import second_branch
from impactx_jax.models import impactx as networks
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

LEP_INITS = ('like_classifier', 'from_classifier', 'scratch')
OPTIONS = second_branch.OPTIONS | decoding.OPTIONS | {
    # Weight of the explanation in the loss (equation 1).
    'lambda_': 1.0,
    # Weight in the loss of the probabilities of the classifier that is
    # explained, as a teacher's: plain distillation, beside its maps or instead.
    'distillation': 0.0,
    # LEP's start: 'like_classifier' (as A started: from published weights, or
    # at random), 'from_classifier' (A's trained trunk) or 'scratch'. LeNet-5
    # starts at random, so that the first and the last are the same for it;
    # impactx_single_stage has no trained A, so that the last two are for it.
    'lep_init': 'like_classifier',
    # Width of one hidden layer of C; 0: none.
    'classifier_hidden': 0,
}
BOUNDS: bounds.Bounds = second_branch.BOUNDS | decoding.BOUNDS | {
    'lambda_': bounds.Range(0),
    'distillation': bounds.Range(0),
    'lep_init': bounds.Choice('initialisation of LEP', LEP_INITS),
    'classifier_hidden': bounds.Range(0),
}
PARTS = {
    'M': (('collections', second_branch.FROZEN),),
    'LEP and D': (('params', 'lep'), ('params', 'decoder')),
    'C': (('params', 'classifier'), ('params', 'classifier_hidden')),
}


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds LEP, D and C around the frozen M (IMPACTX, section 3.3).

  Args:
    config: `config.model` and `config.method` are read.
    problem: What is known of the data.
  """
  options, task = config.method, tasks.TASKS[problem.task]
  decoder = decoding.create(config, problem)
  network = create_network(config, problem, decoder.module)
  init_branch, apply = second_branch.create(config, problem, network)

  def init(key, classifier):
    images = base.zeros(problem)
    params, collections = init_branch(
        key, classifier, images, see=seeing(decoder, task, classifier, images)
    )
    if options.lep_init == 'from_classifier':
      a = collections[second_branch.FROZEN]
      params = _with_trunk(params, a['params'])
      if 'batch_stats' in collections:
        collections['batch_stats'] = _with_trunk(
            collections['batch_stats'], a['collections']['batch_stats']
        )
    return params, collections

  def forward(params, collections, images, classes=None, key=None):
    a = collections[second_branch.FROZEN]
    (logits, cells), collections = apply(
        params, collections, images, images, key,
        see=seeing(decoder, task, a, images, classes),
    )
    classes = task.top(logits) if classes is None else classes
    return logits, decoder.read(cells, a, images, classes), collections

  def loss(params, collections, batch, key):
    logits, cells, collections = forward(
        params, collections, batch['image'], batch.get('explained'), key
    )
    total, metrics = equation_1(task, logits, cells, batch, options.map_cell)
    if options.distillation:
      taught = task.distillation(logits, batch['teacher'])
      total += batch['distillation'] * taught
      metrics |= base.mean_metrics(loss=total, distillation=taught)
    return total.mean(), base.Aux(collections, metrics)

  def predict(variables, batch):
    logits, cells, _ = forward(
        variables['params'], variables['collections'], batch['image']
    )
    return base.Prediction(logits, losses.spread(cells, options.map_cell))

  def map_of(variables, batch, classes):
    _, cells, _ = forward(
        variables['params'], variables['collections'], batch['image'], classes
    )
    return losses.spread(cells, options.map_cell)

  def code(variables, batch):
    _, of_branch = split(variables)
    return network.apply(
        of_branch, batch['image'], method=lambda net, x: net.lep(x)
    )

  def split(variables):
    collections = variables['collections']
    return (
        base.flax_variables(collections[second_branch.FROZEN]),
        {'params': variables['params'],
         **second_branch.of_branch(collections)},
    )

  classifier = models.create_classifier(config.model, problem.num_classes)
  layers = cut(classifier, network, options.m_output, split)
  return base.Method(
      task, init, loss, predict, map_of=map_of if decoder.of_class else None,
      code=code, layers=layers, parts=PARTS,
  )


def seeing(
    decoder: decoding.Decoding,
    task: tasks.Task,
    a: Any,
    images: jax.Array,
    classes: jax.Array | None = None,
) -> Callable[[jax.Array, jax.Array], Any] | None:
  """Returns what `ImpactX` calls for what D sees; None where it is z alone.

  Args:
    decoder: Of the method.
    task: Which tells the class that is explained.
    a: The variables of M.
    images: [B, H, W, C].
    classes: int [B], to be explained; None for the answers.
  """
  if decoder.see is None:
    return None

  def see(logits, code):
    chosen = task.top(logits) if classes is None else classes
    return decoder.see(a, images, chosen, code)

  return see


def _with_trunk(branch, classifier):
  """Gives LEP the trunk of A."""
  return {**branch, 'lep': {**branch['lep'], 'trunk': classifier['trunk']}}


def cut(
    classifier: models.Classifier,
    network: networks.ImpactX,
    m_output: str,
    split: Callable[[Any], tuple[Any, Any]],
) -> explainers.Layers:
  """Cuts IMPACTX after the last convolutions of M and LEP, for Grad-CAM.

  Args:
    classifier: M, a models.Classifier.
    network: LEP, D and C.
    m_output: What C sees of M.
    split: Variables -> those of M and of the network, as Flax takes them.

  Returns:
    Images -> the features of both trunks [B, h, w, 2 F], and these -> logits.
  """
  m_features, m_scores = baseline.cut(classifier)

  def features(variables, images):
    of_m, of_branch = split(variables)
    lep = network.apply(
        of_branch, images, method=lambda net, x: net.lep.trunk(x)
    )
    return jnp.concatenate([m_features(of_m, images), lep], axis=-1)

  def logits(variables, features):
    of_m, of_branch = split(variables)
    m, lep = jnp.split(features, 2, axis=-1)
    return network.apply(
        of_branch,
        lep,
        getattr(m_scores(of_m, m), m_output),
        method=lambda net, x, m: net.classify(m, net.lep.encode(x)),
    )

  return explainers.Layers(features, logits)


def create_network(
    config: ConfigDict, problem: base.Problem, decoder: nn.Module
) -> networks.ImpactX:
  """Returns LEP, D and C as the config describes them; D predicts cells."""
  options = config.method
  return networks.ImpactX(
      lep=networks.LatentExplanationPredictor(
          models.create_trunk(config.model),
          options.lep_units,
          models.find(config.model.name).pool,
      ),
      decoder=decoder,
      num_classes=problem.num_classes,
      hidden=options.classifier_hidden,
  )


def equation_1(
    task: tasks.Task,
    logits: jax.Array,
    cells: jax.Array,
    batch: base.Batch,
    map_cell: int,
) -> tuple[jax.Array, base.Metrics]:
  """The loss of IMPACTX, CE + lambda MSE (equation 1).

  Args:
    task: Whose loss is the first term.
    logits: Of C, [B, K].
    cells: Of D, [B, h, w, C'].
    batch: With the truth, `lambda_` [] and `map` [B, H, W, C'], scaled,
      without which the loss is CE; with `mapped` [B] as well, the MSE counts
      where it is 1.
    map_cell: Side of D's cells in pixels.

  Returns:
    The loss of each example [B], and the metrics.
  """
  classification = task.loss(logits, batch)
  total, metrics = classification, base.task_metrics(task, logits, batch)
  if 'map' in batch:
    target = losses.pool(batch['map'], map_cell)
    mapped = batch.get('mapped', jnp.ones_like(classification))
    mse = losses.map_mse(cells, target) * mapped
    total += batch['lambda_'] * mse
    metrics['map_mse'] = mse.sum(), mapped.sum()
  return total, metrics | base.mean_metrics(loss=total)


def check(config: ConfigDict) -> None:
  """Raises InputError for a `config.method` of which it cannot be made."""
  bounds.check(config.method, BOUNDS, 'config.method')
  decoding.check(config)
  second_branch.check_classes(config)


def about(options: ConfigDict) -> str:
  """Says what a trained network's own map is."""
  if not options.lambda_ or options.maps != 'true_class':
    return about_control()
  return (
      "IMPACTX's map is a prediction, learned from maps of the true class; "
      "where the predicted class is wrong it may be another class's."
  )


def about_control() -> str:
  """Says what the map of a control is."""
  return (
      'This map is of a control, whose decoder has not learned the maps of the '
      'true class.'
  )


def published(options: ConfigDict) -> tuple[str, ...] | None:
  """M is there already; LEP starts from published weights where it is to."""
  if options.lep_init != 'like_classifier':
    return None
  return (second_branch.FROZEN,)


def cost(config: ConfigDict, summary: dict[str, Any], maps: int) -> int:
  """Counts the evaluations for its maps: none where nothing is learned."""
  del summary
  if not config.method.lambda_ or config.method.maps in map_data.OF_PICTURES:
    return 0
  return maps * base.evaluations(config.attribution)


METHOD = base.Spec(
    create,
    'IMPACTX',
    options=OPTIONS,
    scalars=('lambda_', 'distillation'),
    check=check,
    check_data=decoding.check_data,
    maps=lambda options: (
        'other_class' if options.maps == 'other_class' else 'true_class'
    ),
    unmapped=True,
    control='impactx_lambda0',  # The network without the explanation.
    about=about,
    published=published,
    cost=cost,
)
# Does the explanation help, or only the second branch?
CONTROLS = {
    'impactx_lambda0': METHOD.variant('IMPACTX, λ = 0', lambda_=0.0),
    'impactx_shuffled': METHOD.variant(
        'IMPACTX, shuffled maps', maps='shuffled'
    ),
    'impactx_random': METHOD.variant('IMPACTX, random maps', maps='random'),
    'impactx_edges': METHOD.variant('IMPACTX, edges', maps='edges'),
    'impactx_masked': METHOD.variant('IMPACTX, masked maps', maps='masked'),
    'impactx_mask': METHOD.variant('IMPACTX, true masks', maps='mask'),
    'impactx_distilled': METHOD.variant(
        'IMPACTX, λ = 0, distilled', lambda_=0.0, distillation=1.0
    ),
    'impactx_other_class': METHOD.variant(
        "IMPACTX, another class's maps", maps='other_class'
    ),
}
