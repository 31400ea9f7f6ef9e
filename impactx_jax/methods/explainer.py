"""A learned explainer of a network that stays as it is: D alone, no C.

Its class is A's own, so its accuracy is A's to the last image; what it learns
is to predict, in one pass, the maps that `config.attribution` makes of A, or
FastSHAP's objective, which needs no maps.
"""

import math
from typing import Any

from attribution import explainers
from attribution.errors import InputError
from attribution.explainers import fastshap
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.data import maps as map_data
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import decoding
from impactx_jax.methods import impactx
from impactx_jax.methods import second_branch
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

OBJECTIVES = ('maps', 'fastshap')
OF_MAPS = ('maps', 'map_scaling', 'map_channels', 'map_cell')
OPTIONS = decoding.OPTIONS | {
    # What D learns from: stored 'maps', or 'fastshap', sets of cells that are
    # drawn and shown to A in each step, for which no maps are made.
    'explainer_objective': 'maps',
    # Such sets an image and step; even.
    'fastshap_samples': 8,
} | {name: second_branch.OPTIONS[name] for name in OF_MAPS}
BOUNDS: bounds.Bounds = {
    'explainer_objective': bounds.Choice('objective', OBJECTIVES),
    'fastshap_samples': bounds.Range(2),
} | {name: second_branch.BOUNDS[name] for name in OF_MAPS}
SEES, CLASSES = 'gradient', 'all'  # Where the config does not say.
# What explains all classes of an image at the price of one.
AT_ONCE = (
    'partition', 'partition_grid', 'shap_partition', 'kernel_shap',
    'permutation_shap', 'occlusion', 'rise',
)


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds D beside a frozen A.

  Args:
    config: `model`, `method` and `attribution` are read.
    problem: What is known of the data.
  """
  options, task = config.method, tasks.TASKS[problem.task]
  decoder = decoding.create(config, problem, sees=SEES, classes=CLASSES)
  scores = baseline.from_variables(config, problem.num_classes)
  masker = decoding.hidden(config.attribution)
  learns_sets = options.explainer_objective == 'fastshap'

  def forward(params, a, images, classes=None):
    logits = scores(a, images).logits
    classes = task.top(logits) if classes is None else classes
    cells = decoder.module.apply(
        {'params': params}, decoder.see(a, images, classes)
    )
    cells = decoder.read(cells, a, images, classes)
    if learns_sets:  # They sum to a difference of scores.
      cells /= math.prod(cells.shape[1:])
    return logits, cells, classes

  def finished(cells, a, images, classes):
    if learns_sets:
      ends = (
          decoder.score(a, x, classes)
          for x in (images, masker.background(images))
      )
      cells = fastshap.complete(cells[..., 0], *ends)[..., None]
      cells /= options.map_cell**2  # Of a cell's value, that of its pixels.
    return losses.spread(cells, options.map_cell)

  def init(key, a):
    a = jax.tree.map(jnp.asarray, a)
    seen = decoder.see(a, base.zeros(problem), jnp.zeros(1, jnp.int32))
    return decoder.module.init(key, seen)['params'], {second_branch.FROZEN: a}

  def of_maps(params, a, batch, key):
    del key
    logits, cells, _ = forward(params, a, batch['image'], batch['explained'])
    error = losses.map_mse(cells, losses.pool(batch['map'], options.map_cell))
    return logits, error, base.mean_metrics(map_mse=error)

  def of_sets(params, a, batch, key):
    images, (of_class, key) = batch['image'], jax.random.split(key)
    classes = jax.random.randint(
        of_class, (len(images),), 0, problem.num_classes
    )
    logits, cells, _ = forward(params, a, images, classes)
    samples = options.fastshap_samples
    error = fastshap.loss(
        cells[..., 0], images, masker.background(images),
        lambda x: decoder.score(a, x, classes.repeat(samples + 2)),
        key, samples=samples,
    )
    return logits, error, {}

  def loss(params, collections, batch, key):
    learn = of_sets if learns_sets else of_maps
    logits, error, metrics = learn(
        params, collections[second_branch.FROZEN], batch, key
    )
    metrics |= base.task_metrics(task, logits, batch)
    metrics |= base.mean_metrics(loss=error)
    return error.mean(), base.Aux(collections, metrics)

  def explained(variables, batch, classes=None):
    a, images = variables['collections'][second_branch.FROZEN], batch['image']
    logits, cells, classes = forward(variables['params'], a, images, classes)
    return logits, finished(cells, a, images, classes)

  def of_a(variables):
    return variables['collections'][second_branch.FROZEN]

  def of_a_alone(cut):
    return cut and explainers.Layers(*(
        lambda variables, x, part=part: part(of_a(variables), x)
        for part in cut
    ))

  network = models.create_classifier(config.model, problem.num_classes)
  return base.Method(
      task,
      init,
      loss,
      lambda variables, batch: base.Prediction(*explained(variables, batch)),
      map_of=(
          (lambda *arguments: explained(*arguments)[1])
          if decoder.of_class else None
      ),
      layers=of_a_alone(baseline.layers(network)),
      linear=of_a_alone(baseline.linear(network)),
      parts={'M': impactx.PARTS['M'], 'D': (('params',),)},
  )


def check(config: ConfigDict) -> None:
  """Raises InputError for a `config.method` of which it cannot be made."""
  bounds.check(config.method, BOUNDS, 'config.method')
  decoding.check(config, SEES)
  if config.attribution.classes_per_image > 1:
    _check_several(config)
  if config.method.decoder_sees == 'code':
    raise InputError(
        "config.method.decoder_sees is 'code', and explainer has no LEP whose "
        'code its decoder could see. Take features or gradient with '
        '--config.method.decoder_sees=NAME, or train impactx.'
    )
  if config.attribution.classifier:
    raise InputError(
        f'--config.attribution.classifier is {config.attribution.classifier}, '
        'and explainer explains A itself. Leave it out, or take that '
        'classifier for A with --config.classifier.workdir=DIR.'
    )
  if config.method.explainer_objective == 'fastshap':
    _check_fastshap(config)


def _check_several(config: ConfigDict) -> None:
  """Refuses maps of several classes that cannot be had, or learned."""
  options = config.method
  given = 'config.attribution.classes_per_image is ' + str(
      config.attribution.classes_per_image
  )
  one = 'or --config.attribution.classes_per_image=1.'
  if config.attribution.explainer not in AT_ONCE:
    raise InputError(
        f'{given}, and {config.attribution.explainer} explains each class by '
        f'itself. Take --config.attribution.explainer=NAME, one of '
        f'{", ".join(AT_ONCE)}, {one}'
    )
  if (options.maps, options.explainer_objective) != ('true_class', 'maps'):
    raise InputError(
        f'{given}, which is for maps of the classes that are explained. Take '
        '--config.method.maps=true_class and '
        f'--config.method.explainer_objective=maps, {one}'
    )
  if (options.decoder_sees or SEES) != 'gradient' and (
      options.decoder_classes or CLASSES
  ) == 'one':
    raise InputError(
        f'{given}, and the decoder has one map, whatever the class. Take '
        f'--config.method.decoder_classes=all, {one}'
    )


def check_data(config: ConfigDict, data: dict[str, Any]) -> None:
  """Raises InputError for maps that there cannot be of these data."""
  decoding.check_data(config, data)
  classes, names = config.attribution.classes_per_image, data['class_names']
  if classes > len(names):
    raise InputError(
        f'config.attribution.classes_per_image is {classes}, and '
        f'{data["name"]} has {len(names)} classes.',
        '--config.attribution.classes_per_image', 'N',
    )


def _check_fastshap(config: ConfigDict) -> None:
  """Raises InputError for settings that FastSHAP's objective cannot have."""
  options, masker = config.method, config.attribution.masker
  if decoding.hidden(config.attribution).name != masker:
    raise InputError(
        f'The masker {masker!r} is not one whose hidden image the step can '
        'make on the device, as explainer_objective=fastshap needs. Take '
        '--config.attribution.masker=blur or constant, or learn from maps with '
        '--config.method.explainer_objective=maps.'
    )
  if options.fastshap_samples % 2:
    raise InputError(
        f'config.method.fastshap_samples is {options.fastshap_samples}; a set '
        'and its complement are drawn together, so it must be even.',
        '--config.method.fastshap_samples', 'N',
    )
  wanted = {'maps': 'true_class', 'map_channels': 1, 'completeness': False}
  for field, value in wanted.items():
    if options[field] != value:
      raise InputError(
          f'config.method.{field} is {options[field]!r}, and what '
          'explainer_objective=fastshap learns are complete values of cells, '
          f'for all channels together, from no maps. Take '
          f'--config.method.{field}={value}.'
      )
  one_map = (options.decoder_classes or CLASSES) == 'one'
  if one_map and (options.decoder_sees or SEES) == 'features':
    raise InputError(
        'explainer_objective=fastshap explains another class in each step, and '
        'one map of features cannot know which. Take '
        '--config.method.decoder_classes=all or '
        '--config.method.decoder_sees=gradient.'
    )
  if options.map_cell == 1:
    raise InputError(
        'explainer_objective=fastshap shows cells of several pixels. Take '
        '--config.method.map_cell=N, such as an eighth of the side.'
    )


def about(options: ConfigDict) -> str:
  """Says what a trained network's own map is."""
  if options.maps != 'true_class':
    return impactx.about_control()
  return (
      "This map is a prediction of the explainer's; the class is that of the "
      'network that is explained, which is as it was.'
  )


def cost(config: ConfigDict, summary: dict[str, Any], maps: int) -> int:
  """Counts the evaluations for its maps, or of the sets that A was shown."""
  if config.method.maps in map_data.OF_PICTURES:
    return 0
  if config.method.explainer_objective == 'maps':
    return maps * base.evaluations(config.attribution)
  batch_size = config.method.training.batch_size
  steps = summary['examples']['train'] // batch_size * len(summary['history'])
  return steps * batch_size * (config.method.fastshap_samples + 2)


METHOD = base.Spec(
    create,
    'A, learned explainer',
    options=OPTIONS,
    check=check,
    check_data=check_data,
    maps=lambda options: (
        impactx.METHOD.maps(options)
        if options.explainer_objective == 'maps' else ''
    ),
    about=about,
    published=lambda options: None,
    cost=cost,
)
