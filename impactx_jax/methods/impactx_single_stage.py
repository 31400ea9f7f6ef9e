"""Single-stage IMPACTX: all modules, and the maps, are made together."""

from attribution import explainers
from attribution.errors import InputError
from impactx_jax import losses
from impactx_jax import models
from impactx_jax import parallel
from impactx_jax.methods import base
from impactx_jax.methods import impactx
import jax
import jax.numpy as jnp


def create(config, task: base.Task) -> base.Method:
  """Builds M, LEP, D and C, all trained (IMPACTX, section 3.3, single-stage).

  The paper names this training and never ran it. Here, every
  `config.method.refresh_every` steps the examples of the batch are explained
  by the network as it is then, on the device, before they are augmented. Until
  its next turn an example uses its last map, and none before its first.

  With lambda = 0 nothing is explained.

  Args:
    config: The whole config.
    task: The data's shapes, the number of examples, and the masker.
  """
  options = config.method
  learns_maps = options.lambda_ > 0
  classifier = models.create_classifier(config.model, task.num_classes)
  network = impactx.create_network(config, task)
  shape = base.map_shape(options, task.image_shape)

  def init(rng):
    m_rng, rng = jax.random.split(rng)
    own = dict(classifier.init(m_rng, base.zeros(task)))
    scores = classifier.apply(own, base.zeros(task))
    m = getattr(scores, options.m_output)
    branch = dict(network.init(rng, base.zeros(task), m))
    params = {'m': own.pop('params'), 'branch': branch.pop('params')}
    collections = {'m': own, 'branch': branch}
    if learns_maps:
      collections[base.SCRATCH] = {
          'maps': jnp.zeros((task.examples, *shape), jnp.float32),
          'made': jnp.full(task.examples, -1, jnp.int32),
          'step': jnp.zeros((), jnp.int32),
      }
    return params, collections

  def apply(params, collections, images, train, rng=None):
    rngs = {'dropout': rng} if train else None
    scores, own = classifier.apply(
        {'params': params['m'], **collections['m']}, images, train,
        mutable=list(collections['m']) if train else [],
        rngs=rngs,
    )
    outputs, branch = network.apply(
        {'params': params['branch'], **collections['branch']},
        images,
        getattr(scores, options.m_output),
        train,
        mutable=list(collections['branch']) if train else [],
        rngs=rngs,
    )
    return *outputs, {**collections, 'm': own, 'branch': branch}

  def explain(variables, batch):
    def score(images):
      logits, *_ = apply(
          variables['params'], variables['collections'], images, train=False
      )
      probability = config.attribution.explained_output == 'probability'
      return jax.nn.softmax(logits) if probability else logits

    program = explainers.create_program(
        config.attribution.explainer,
        score,
        task.image_shape,
        max_evals=options.refresh_evals,
        batch_size=config.attribution.batch_size,
        grid=config.attribution.grid,
        integration_steps=config.attribution.integration_steps,
        **task.masking,
    )
    maps = program(batch['image'], batch['label'][:, None])[..., 0]
    return losses.targets(
        maps,
        channels=options.map_channels,
        cell=options.map_cell,
        scaling=options.map_scaling,
    )

  def prepare(params, collections, batch):
    variables = {'params': params, 'collections': collections}
    old = collections[base.SCRATCH]
    rows, step = batch['row'], old['step']
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
        'step': step + 1,
    }
    has_map = (made >= 0).astype(jnp.float32)
    age = (step - made).astype(jnp.float32)
    return {**collections, base.SCRATCH: scratch}, {
        **batch, 'map': maps, 'has_map': has_map, 'map_age': age
    }

  def loss(params, collections, batch, rng):
    logits, cells, collections = apply(
        params, collections, batch['image'], train=True, rng=rng
    )
    total, metrics = impactx.equation_1(logits, cells, batch, options)
    if learns_maps:
      has_map = batch['has_map']
      metrics |= base.mean_metrics(mapped=has_map)
      metrics['map_age'] = (batch['map_age'] * has_map).sum(), has_map.sum()
    return total.mean(), base.Aux(collections, metrics)

  def predict(variables, images):
    logits, cells, _ = apply(
        variables['params'], variables['collections'], images, train=False
    )
    return base.Prediction(logits, losses.spread(cells, options.map_cell))

  def layers(variables):
    params, collections = variables['params'], variables['collections']
    return impactx.cut(
        classifier,
        {'params': params['m'], **collections['m']},
        network,
        {'params': params['branch'], **collections['branch']},
        options.m_output,
    )

  return base.Method(
      init, loss, predict, prepare if learns_maps else None, explain=explain,
      layers=layers,
  )


def check(config) -> None:
  """Raises InputError for settings of which no single-stage can be made."""
  # Grad-CAM would have to be given the network cut in two.
  usable = [name for name in explainers.PROGRAMS if name != 'grad_cam']
  if config.attribution.explainer not in usable:
    raise InputError(
        f'impactx_single_stage explains inside the training step, which '
        f'{config.attribution.explainer!r} cannot; it takes '
        f'{", ".join(usable)}. Change it with '
        '--config.attribution.explainer=NAME.'
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
