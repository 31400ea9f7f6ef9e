"""Single-stage IMPACTX: all modules, and the maps, are made together."""

from typing import Any

from attribution import explainers
from attribution.errors import InputError
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax import tasks
from impactx_jax.methods import base
from impactx_jax.methods import decoding
from impactx_jax.methods import impactx
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

OPTIONS = impactx.OPTIONS | {
    # Steps between two explanations of a batch, and evaluations an image for
    # each.
    'refresh_every': 10,
    'refresh_evals': 100,
}
BOUNDS: bounds.Bounds = impactx.BOUNDS | {
    'refresh_every': bounds.Range(1),
    'refresh_evals': bounds.Range(3),
}


def create(config: ConfigDict, problem: base.Problem) -> base.Method:
  """Builds M, LEP, D and C, all trained (IMPACTX, section 3.3, single-stage).

  The paper names this training and never ran it. Here, every
  `config.method.refresh_every` steps the examples of the batch are explained
  by the network as it is then, on the device, before they are augmented. Until
  its next turn an example uses its last map, and none before its first.

  With lambda = 0 nothing is explained while it trains.

  Args:
    config: `model`, `method` and `attribution` are read.
    problem: What is known of the data, the number of examples, the masker.
  """
  options, task = config.method, tasks.TASKS[problem.task]
  learns_maps = options.lambda_ > 0
  classifier = models.create_classifier(config.model, problem.num_classes)
  decoder = decoding.create(config, problem)
  network = impactx.create_network(config, problem, decoder.module)
  shape = base.map_shape(options, problem.image_shape)

  def as_a(params, collections):
    return {'params': params['m'], 'collections': collections['m']}

  def init(key, of_classifier=None):
    del of_classifier
    m_key, key = jax.random.split(key)
    own = dict(classifier.init(m_key, base.zeros(problem)))
    scores = classifier.apply(own, base.zeros(problem))
    m = getattr(scores, options.m_output)
    params = {'m': own.pop('params')}
    see = impactx.seeing(
        decoder, task, as_a(params, {'m': own}), base.zeros(problem)
    )
    branch = dict(network.init(key, base.zeros(problem), m, see=see))
    params['branch'] = branch.pop('params')
    collections = {'m': own, 'branch': branch}
    if learns_maps:
      collections[base.SCRATCH] = {
          'maps': jnp.zeros((problem.examples, *shape), jnp.float32),
          'made': jnp.full(problem.examples, -1, jnp.int32),
      }
    return params, collections

  def apply(params, collections, images, key=None, classes=None):
    train = key is not None
    a = as_a(params, collections)
    rngs = {'dropout': key} if train else None
    scores, own = classifier.apply(
        {'params': params['m'], **collections['m']}, images, train,
        mutable=list(collections['m']) if train else [],
        rngs=rngs,
    )
    (logits, cells), branch = network.apply(
        {'params': params['branch'], **collections['branch']},
        images,
        getattr(scores, options.m_output),
        train,
        mutable=list(collections['branch']) if train else [],
        rngs=rngs,
        see=impactx.seeing(decoder, task, a, images, classes),
    )
    classes = task.top(logits) if classes is None else classes
    cells = decoder.read(cells, a, images, classes)
    return logits, cells, {**collections, 'm': own, 'branch': branch}

  def predict(variables, batch):
    logits, cells, _ = apply(
        variables['params'], variables['collections'], batch['image']
    )
    return base.Prediction(logits, losses.spread(cells, options.map_cell))

  def map_of(variables, batch, classes):
    _, cells, _ = apply(
        variables['params'], variables['collections'], batch['image'],
        classes=classes,
    )
    return losses.spread(cells, options.map_cell)

  def score(variables, images):
    logits = predict(variables, {'image': images}).logits
    probability = config.attribution.explained_output == 'probability'
    return task.probabilities(logits) if probability else logits

  def explain(variables, batch):
    program = explainers.create_program(
        config.attribution.explainer,
        score,
        max_evals=options.refresh_evals,
        batch_size=config.attribution.batch_size,
        grid=config.attribution.grid,
        integration_steps=config.attribution.integration_steps,
        masker=problem.masker,
    )
    classes = batch[task.labels][:, None]
    maps = program(variables, batch['image'], classes)[..., 0]
    return losses.targets(
        maps,
        channels=options.map_channels,
        cell=options.map_cell,
        scaling=options.map_scaling,
    )

  def prepare(state, batch, key):
    del key
    variables = {'params': state.params, 'collections': state.collections}
    old = state.collections[base.SCRATCH]
    rows, step = batch['row'], state.step
    now = step % options.refresh_every == 0
    maps = jax.lax.cond(
        now,
        lambda: explain(variables, batch),
        lambda: old['maps'][rows],
    )
    made = jnp.where(now, step, old['made'][rows])
    # Each device has explained its part of the batch; all keep all maps.
    rows, all_maps, all_made = parallel.gather((rows, maps, made))
    scratch = {
        'maps': old['maps'].at[rows].set(all_maps),
        'made': old['made'].at[rows].set(all_made),
    }
    collections = {**state.collections, base.SCRATCH: scratch}
    return state.replace(collections=collections), {
        **batch,
        'map': maps,
        'mapped': (made >= 0).astype(jnp.float32),
        'map_age': (step - made).astype(jnp.float32),
    }

  def loss(params, collections, batch, key):
    logits, cells, collections = apply(
        params, collections, batch['image'], key, batch[task.labels]
    )
    total, metrics = impactx.equation_1(
        task, logits, cells, batch, options.map_cell
    )
    if learns_maps:
      mapped = batch['mapped']
      metrics |= base.mean_metrics(mapped=mapped)
      metrics['map_age'] = (batch['map_age'] * mapped).sum(), mapped.sum()
    return total.mean(), base.Aux(collections, metrics)

  def code(variables, batch):
    _, branch = split(variables)
    return network.apply(
        branch, batch['image'], method=lambda net, x: net.lep(x)
    )

  def split(variables):
    params, collections = variables['params'], variables['collections']
    return tuple(
        {'params': params[part], **collections[part]}
        for part in ('m', 'branch')
    )

  return base.Method(
      task,
      init,
      loss,
      predict,
      prepare=prepare if learns_maps else None,
      explain=explain,
      map_of=map_of if decoder.of_class else None,
      code=code,
      parts={
          'M': (('params', 'm'),),
          **{
              name: tuple(('params', 'branch', place) for _, place in places)
              for name, places in impactx.PARTS.items() if name != 'M'
          },
      },
      layers=impactx.cut(classifier, network, options.m_output, split),
  )


def check(config: ConfigDict) -> None:
  """Raises InputError for settings of which no single-stage can be made."""
  bounds.check(config.method, BOUNDS, 'config.method')
  decoding.check(config)
  # Some would have to be given the network cut in two.
  usable = [
      name for name in explainers.programs()
      if name not in explainers.NEED_LAYERS
  ]
  if config.attribution.explainer not in usable:
    raise InputError(
        f'impactx_single_stage explains inside the training step, which '
        f'{config.attribution.explainer!r} cannot; it takes '
        f'{", ".join(usable)}.', '--config.attribution.explainer', 'NAME',
    )
  if config.method.decoder_sees == 'gradient' or config.method.completeness:
    raise InputError(
        'impactx_single_stage explains the whole network while it trains, and '
        'what its decoder sees is M alone, whose own answer is not trained. '
        'Take code or features with --config.method.decoder_sees=NAME, and '
        '--config.method.completeness=False, or train impactx.'
    )
  if config.method.distillation:
    raise InputError(
        'impactx_single_stage has no trained classifier whose probabilities it '
        'could learn. Leave it out with --config.method.distillation=0.0, or '
        'train impactx.'
    )
  if config.method.map_scaling == 'global_std':
    raise InputError(
        'impactx_single_stage has no standard deviation of all maps, for it '
        "makes them on the way. Choose 'max_abs' or 'none' with "
        '--config.method.map_scaling=NAME.'
    )
  if config.method.maps != 'true_class':
    raise InputError(
        f'config.method.maps is {config.method.maps!r}, but '
        'impactx_single_stage makes the maps of the true class itself. Leave '
        "it at 'true_class', with --config.method.maps=true_class, or train "
        'impactx with it.'
    )


def check_data(config: ConfigDict, data: dict[str, Any]) -> None:
  """Raises InputError for data of which it cannot make the maps."""
  decoding.check_data(config, data)
  if tasks.TASKS[data['task']].labels != 'label':
    raise InputError(
        'impactx_single_stage explains the one true class of an image, and '
        f'{data["name"]} has several labels an image. Choose another method '
        'with --config.method.name=NAME.'
    )


def published(options: ConfigDict) -> tuple[str, ...]:
  """M always starts from published weights, and LEP where it is to."""
  return () if options.lep_init == 'like_classifier' else ('lep',)


def cost(config: ConfigDict, summary: dict[str, Any], maps: int) -> int:
  """Counts the evaluations of the explanations that training made."""
  del maps
  if not config.method.lambda_:
    return 0
  training = config.classifier.training
  epoch = summary['examples']['train'] // training.batch_size
  steps = epoch * len(summary['history'])
  explained = -(-steps // config.method.refresh_every) * training.batch_size
  attribution = config.attribution.copy_and_resolve_references()
  attribution.max_evals = config.method.refresh_evals
  return explained * base.evaluations(attribution)


METHOD = base.Spec(
    create,
    'IMPACTX, single-stage',
    options=OPTIONS,
    scalars=('lambda_',),
    check=check,
    check_data=check_data,
    explains=True,
    from_scratch=True,
    control='impactx_single_stage_lambda0',
    about=impactx.about,
    published=published,
    cost=cost,
)
CONTROLS = {
    'impactx_single_stage_lambda0': METHOD.variant(
        'IMPACTX, single-stage, λ = 0', lambda_=0.0
    ),
}
