"""Model guidance: A, trained on so that its explanations stay in a mask.

Rao et al., 'Studying How to Efficiently and Effectively Guide Models with
Explanations', ICCV 2023. What is guided is a map of the network itself, inside
its loss; nothing is learned beside it, and nothing is added to the network.
"""

from collections.abc import Callable
import dataclasses
import functools

from attribution.errors import InputError
from attribution.errors import unknown_choice
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax import models
from impactx_jax.data import guidance
from impactx_jax.methods import base
from impactx_jax.methods import baseline
from impactx_jax.methods import baseline_continued
from impactx_jax.methods import guided_maps
import jax.numpy as jnp
from ml_collections import ConfigDict

ATTRIBUTIONS = (
    'input_x_gradient', 'grad_cam', 'integrated_gradients', 'b_cos',
)
OUTPUTS = ('logit', 'difference')
SIGNS = ('positive', 'both')
CLASSES = ('one', 'all')
OPTIONS = {
    # λ' of the localisation loss, which is a mean over all images of a batch,
    # those without a mask included. The paper's λ belongs to a sum over 64
    # images: λ' = 64 λ.
    'guidance_lambda': 1.0,
    # How much of a map is outside the mask: 'energy', 'l1', 'ppce' or 'rrr'.
    'guidance_loss': 'energy',
    # Which map: 'input_x_gradient'; 'grad_cam'; 'integrated_gradients', from
    # black, in one pass for x_dnn; or 'b_cos', of that variant.
    'guidance_attribution': 'input_x_gradient',
    # Where: 'input', or a later layer of the backbone.
    'guidance_layer': 'input',
    # Of what: the 'logit' of a class or its 'difference' from the mean of the
    # others.
    'guidance_output': 'logit',
    # Of which classes: 'one' of those present, drawn anew each step, or 'all'
    # that have a mask; of data with one label an image, all there are.
    'guidance_classes': 'one',
    # What must be in the mask: what speaks for the class, 'positive', or 'both'
    # what speaks for it and what speaks against it.
    'guidance_sign': 'positive',
    # Whether rrr divides by a largest value that gets no gradient.
    'guidance_detached': False,
    # Gradients a map, of integrated_gradients where it takes more than one.
    'guidance_steps': 8,
    **guidance.OPTIONS,
}
BOUNDS: bounds.Bounds = {
    'guidance_lambda': bounds.Range(0),
    'guidance_loss': bounds.Choice(
        'localisation loss', tuple(losses.LOCALISATION)
    ),
    'guidance_attribution': bounds.Choice('attribution', ATTRIBUTIONS),
    'guidance_output': bounds.Choice('output', OUTPUTS),
    'guidance_classes': bounds.Choice('choice of classes', CLASSES),
    'guidance_sign': bounds.Choice('sign', SIGNS),
    'guidance_steps': bounds.Range(1),
    **guidance.BOUNDS,
}


def create(
    config: ConfigDict,
    problem: base.Problem,
    network: Callable[..., base.Method] = baseline_continued.create,
) -> base.Method:
  """Builds A with the task's loss and λ' of a localisation loss (equation 1).

  Args:
    config: `config.model` and `config.method` are read.
    problem: What is known of the data.
    network: What makes A: by default one that starts from stage one's.
  """
  options = config.method
  method = network(config, problem)
  maps = guided_maps.map_program(config, problem.num_classes)
  sides = problem.image_shape[:2]

  def prepare(state, batch, key):
    # Before images are moved, and by each one's place in the global batch.
    return state, guidance.choose(
        batch, key, options, task=method.task,
        num_classes=problem.num_classes,
    )

  def loss(params, collections, batch, key):
    value, aux = method.loss(params, collections, batch, key)
    # With running statistics: others of the batch must not be in a map.
    variables = {'params': params, 'collections': collections}
    found = maps(variables, batch['image'], batch[guidance.CLASSES])
    # What was moved out of view by augmentation has no mask to be in.
    masks = batch[guidance.MASKS]
    weights = batch[guidance.WEIGHTS] * masks.any(axis=(1, 2))
    outside = guided_maps.localisation(options, found, masks, sides)
    # Of an image the mean over its classes, of the batch over all images.
    counts = jnp.maximum(weights.sum(axis=1), 1)
    outside = (outside * weights).sum(axis=1) / counts
    total = value + batch['guidance_lambda'] * outside.mean()
    guided = (weights.sum(axis=1) > 0).sum()
    metrics = aux.metrics | {
        'localisation': (outside.sum(), guided),
        'loss': (total * len(outside), len(outside)),
    }
    return total, aux._replace(metrics=metrics)

  def map_of(variables, batch, classes):
    found = maps(variables, batch['image'], classes[:, None])
    return guided_maps.resized(found, sides)

  def predict(variables, batch):
    logits = method.predict(variables, batch).logits
    return base.Prediction(
        logits, map_of(variables, batch, method.task.top(logits))
    )

  def measures(variables, batch):
    return guided_maps.pointing(
        functools.partial(maps, variables), batch, options,
        method.task.labels, problem.num_classes,
    )

  guided = {'prepare': prepare, 'loss': loss} if options.guidance_lambda else {}
  return dataclasses.replace(
      method, predict=predict, map_of=map_of, measures=measures, **guided
  )


def check(config: ConfigDict) -> None:
  """Raises InputError for options that do not fit the network, or each other.

  Args:
    config: The whole config.
  """
  options, name = config.method, config.model.name
  bounds.check(options, BOUNDS, 'config.method')
  layers = models.find(name).layers
  if options.guidance_layer not in layers:
    raise unknown_choice(
        f'layer of {name}', options.guidance_layer, layers,
        '--config.method.guidance_layer',
    )
  attribution = options.guidance_attribution
  if options.guidance_detached and options.guidance_loss != 'rrr':
    raise InputError(
        'guidance_detached is of the loss rrr, and guidance_loss is '
        f'{options.guidance_loss!r}. Leave it out, or take '
        '--config.method.guidance_loss=rrr.'
    )
  if options.guidance_sign == 'both' and attribution == 'grad_cam':
    raise InputError(
        'Grad-CAM has what speaks for a class alone, so guidance_sign=both '
        'changes nothing. Take --config.method.guidance_sign=positive, or '
        'another attribution with --config.method.guidance_attribution=NAME.'
    )
  if attribution == 'b_cos' and config.model.variant != 'b_cos':
    raise InputError(
        'guidance_attribution=b_cos is the linear map of a B-cos network, and '
        f'config.model.variant is {config.model.variant!r}. Take '
        '--config.model.variant=b_cos, or another attribution with '
        '--config.method.guidance_attribution=NAME.'
    )
  if attribution == 'grad_cam' and options.guidance_layer == 'input':
    raise InputError(
        'Grad-CAM weighs the channels of a convolution, and guidance_layer is '
        f'the input. Take --config.method.guidance_layer={layers[-1]}, or '
        'another attribution with --config.method.guidance_attribution=NAME.'
        if len(layers) > 1 else
        f'Grad-CAM weighs the channels of a convolution, and {name} says not '
        'where it can be cut. Take another attribution with '
        '--config.method.guidance_attribution=NAME.'
    )


def about(options: ConfigDict) -> str:
  """Says what a trained network's own map is."""
  return (
      f'This map is {options.guidance_attribution} of the network at '
      f'{options.guidance_layer}, which its training asked to be inside the '
      'masks: that it is there says nothing of what the network looks at.'
  )


METHOD = base.Spec(
    create,
    'guided',
    options=OPTIONS,
    scalars=('guidance_lambda',),
    check=check,
    check_data=guidance.check_data,
    columns=guidance.annotate,
    control='guided_lambda0',
    about=about,
    published=lambda options: None,  # A has had them.
)
FROM_SCRATCH = dataclasses.replace(
    METHOD,
    create=functools.partial(create, network=baseline.create),
    title='guided from the start',
    from_scratch=True,
    control='baseline',
    published=lambda options: (),
)
CONTROLS = {
    'guided_lambda0': METHOD.variant('guided, λ = 0', guidance_lambda=0.0),
    'guided_other_masks': METHOD.variant(
        "guided, another image's masks", guidance_masks='other'
    ),
    'guided_centre': METHOD.variant(
        'guided, a box in the middle', guidance_masks='centre'
    ),
    'guided_random_box': METHOD.variant(
        'guided, a box anywhere', guidance_masks='random'
    ),
    'guided_whole': METHOD.variant(
        'guided, the whole image', guidance_masks='whole'
    ),
}
