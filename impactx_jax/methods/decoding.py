"""What D sees of the classifier that it explains, and how its map is read.

The paper's D sees LEP's code alone, and has one map: it does not change when
the classifier does, nor with the class that is asked for.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from attribution.decoder import MapDecoder
from attribution.decoder import Views
from attribution.errors import InputError
from attribution.maskers import BLUR
from attribution.maskers import Masker
from flax import linen as nn
from impactx_jax import bounds
from impactx_jax import losses
from impactx_jax import models
from impactx_jax import tasks
from impactx_jax.data import maps as map_data
from impactx_jax.data import masks
from impactx_jax.methods import base
from impactx_jax.models import impactx as networks
import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

SEES = ('code', 'features', 'gradient')
CLASSES = ('one', 'all')
OPTIONS = {
    # What D sees: LEP's 'code' alone, as in the paper; A's 'features' as well;
    # or also one backward pass of A, the 'gradient' of the explained output
    # half-way to the hidden image, times what that lacks. '': 'code', but
    # 'gradient' of explainer, which has no LEP.
    'decoder_sees': '',
    # Backward passes for that gradient, at so many points on the way.
    'gradient_points': 1,
    # 'one' map, or 'all': one for each class, learned at the explained class
    # and read at the predicted one or any other. '': 'one', but 'all' of
    # explainer.
    'decoder_classes': '',
    # Whether what a map lacks of f(x) - f(hidden), of the network that is
    # explained, is added to it, evenly. Needs map_scaling 'pixels'.
    'completeness': False,
    # Height of the decoder's smallest feature maps; doubled up to the image's.
    'decoder_start': 8,
    # Channels of the decoder's first block, halved at each next one.
    'decoder_filters': 64,
}
BOUNDS: bounds.Bounds = {
    'decoder_sees': bounds.Choice('view of the decoder', ('', *SEES)),
    'decoder_classes': bounds.Choice('maps of the decoder', ('', *CLASSES)),
    'gradient_points': bounds.Range(1),
    'decoder_start': bounds.Range(1),
    'decoder_filters': bounds.Range(1),
}


class Decoding(NamedTuple):
  """D, and what stands before and behind it.

  Attributes:
    module: D: what it sees -> cells [B, h, w, channels of all its maps].
    see: (variables of A, images, classes int [B], z or None) -> what it sees;
      None for z alone.
    read: (cells, variables of A, images, classes) -> cells [B, h, w, C'] of
      these classes.
    of_class: Whether there is a map for each class.
    score: (variables of A, images, classes int [B]) -> what is explained, [B].
  """

  module: nn.Module
  see: Callable[..., Views] | None
  read: Callable[..., jax.Array]
  of_class: bool
  score: Callable[..., jax.Array]


def create(
    config: ConfigDict,
    problem: base.Problem,
    *,
    sees: str = 'code',
    classes: str = 'one',
) -> Decoding:
  """Builds D as `config.method` describes it.

  Args:
    config: `model`, `method` and `attribution` are read.
    problem: What is known of the data.
    sees: What '' stands for in `decoder_sees`.
    classes: What '' stands for in `decoder_classes`.
  """
  options = config.method
  sees = options.decoder_sees or sees
  classes = options.decoder_classes or classes
  height, width, channels = base.map_shape(options, problem.image_shape)
  cell, count = options.map_cell, 1
  if classes == 'all':
    count = problem.num_classes
  build = networks.Decoder if sees == 'code' else MapDecoder
  classifier = models.create_classifier(config.model, problem.num_classes)
  masker = hidden(config.attribution)

  def of_logits(logits, classes):
    if config.attribution.explained_output == 'probability':
      logits = tasks.TASKS[problem.task].probabilities(logits)
    return jnp.take_along_axis(logits, classes[:, None], axis=-1)[:, 0]

  def score(a, images, classes):
    a = jax.lax.stop_gradient(base.flax_variables(a))
    return of_logits(classifier.apply(a, images).logits, classes)

  def stem_of(a, images):
    return classifier.apply(a, images, method=lambda net, x: net.trunk.stem(x))

  def after_stem(a, stem):
    features = classifier.apply(
        a, stem, method=lambda net, x: net.trunk.last_stage(x)
    )
    return features, classifier.apply(
        a, features, method=lambda net, x: net.head(x)
    )

  def slopes(a, images, stem, classes):
    background = masker.background(images)
    missing = images - background

    def at(images, further):
      _, found = after_stem(a, stem_of(a, images) + further)
      return of_logits(found.logits, classes).sum()

    # One point is half-way, where what is hidden matters as much as what is
    # seen; more are spread evenly, as those of integrated gradients.
    points = options.gradient_points
    of_image, of_stem = jax.tree.map(
        lambda *slopes: sum(slopes) / points,
        *(
            jax.grad(at, argnums=(0, 1))(
                background + (i + 0.5) / points * missing, jnp.zeros_like(stem)
            )
            for i in range(points)
        ),
    )
    of_image = (of_image * missing).sum(-1, keepdims=True)
    return {
        name: losses.scale_maps(values, 'max_abs')
        for name, values in (
            ('gradient', of_image),
            ('cells', losses.pool(of_image, cell)),
            ('stem_gradient', of_stem),
        )
    }

  def see(a, images, classes, code=None):
    a = jax.lax.stop_gradient(base.flax_variables(a))
    stem = stem_of(a, images)
    features, found = after_stem(a, stem)
    seen = [
        found.features,
        tasks.TASKS[problem.task].probabilities(found.logits),
    ]
    if code is not None:
      seen.append(code)
    return Views(
        jnp.concatenate(seen, axis=-1), stem, features,
        **(slopes(a, images, stem, classes) if sees == 'gradient' else {}),
    )

  def read(cells, a, images, classes):
    if count > 1:
      cells = cells.reshape(*cells.shape[:3], channels, count)
      cells = jnp.take_along_axis(
          cells, classes[:, None, None, None, None], axis=-1
      )[..., 0]
    if options.completeness:
      change = score(a, images, classes) - score(
          a, masker.background(images), classes
      )
      # In units of `map_scaling` 'pixels' the mean of a map is its sum.
      lacks = change - cells.mean(axis=(1, 2)).sum(axis=-1)
      cells += lacks[:, None, None, None] / channels
    return cells

  return Decoding(
      module=build(
          (height // cell, width // cell, channels * count),
          start(options, height),
          options.decoder_filters,
      ),
      see=None if sees == 'code' else see,
      read=read,
      of_class=sees == 'gradient' or classes == 'all',
      score=score,
  )


def hidden(attribution: ConfigDict) -> Masker:
  """Returns what hides pixels for D: of the maskers that need no data.

  Args:
    attribution: The config section.

  Returns:
    Its masker; a blur in the place of another.
  """
  if attribution.masker not in ('blur', 'constant'):
    return BLUR
  return Masker(
      attribution.masker, attribution.blur_kernel, attribution.mask_value
  )


def start(options: ConfigDict, height: int) -> int:
  """Returns the height of the decoder's smallest feature maps.

  Cells of several pixels may be fewer than `config.method.decoder_start`, and
  are then predicted at once; a start beyond the image's height stays, to be
  refused.
  """
  cells = height // options.map_cell
  first = options.decoder_start
  return min(first, cells) if first <= height else first


def check(config: ConfigDict, sees: str = 'code') -> None:
  """Raises InputError for a D that cannot be made.

  Args:
    config: `model`, `method` and `attribution` are read.
    sees: What '' stands for in `decoder_sees`.
  """
  options = config.method
  bounds.check(options, BOUNDS, 'config.method')
  sees = options.decoder_sees or sees
  if sees != 'code' and models.find(config.model.name).attention_stage is None:
    raise InputError(
        f'The backbone {config.model.name} has no stem, whose features the '
        f'decoder is to see (decoder_sees={sees}). Give its trunk the methods '
        'stem and last_stage, and its BACKBONE an attention_stage, or choose '
        'another with --config.model.name=NAME.'
    )
  if not options.completeness:
    return
  if options.map_scaling != 'pixels':
    raise InputError(
        f'config.method.map_scaling is {options.map_scaling!r}, whose maps sum '
        'to nothing known, so that they cannot be made complete. Take '
        '--config.method.map_scaling=pixels, or leave it out with '
        '--config.method.completeness=False.'
    )
  if hidden(config.attribution).name != config.attribution.masker:
    raise InputError(
        f'The masker {config.attribution.masker!r} is not one whose hidden '
        'image the decoder can make on the device, as completeness needs. '
        'Take --config.attribution.masker=blur or constant, or leave it out '
        'with --config.method.completeness=False.'
    )
  if config.attribution.classifier:
    raise InputError(
        'The maps are of the classifier that --config.attribution.classifier '
        'names, and completeness would be to A. Leave it out with '
        '--config.method.completeness=False.'
    )


def check_data(config: ConfigDict, data: dict[str, Any]) -> None:
  """Raises InputError for maps that D cannot have, of these data."""
  height, width = data['image_shape'][:2]
  options = config.method
  if options.maps in map_data.OF_MASKS and not masks.has_objects(
      data.get('columns', ())
  ):
    raise InputError(
        f'config.method.maps is {options.maps!r}, and the data have neither '
        'masks nor boxes. Take --config.method.maps=true_class, or data with '
        'masks, such as --config.data.name=shapes/easy.'
    )
  cell = options.map_cell
  if height % cell or width % cell:
    raise InputError(
        f'config.method.map_cell is {cell}, which does not divide images of '
        f'{height}x{width} pixels.', '--config.method.map_cell', 'N',
    )
  networks.decoder_blocks(
      height // cell, width // cell, start(options, height)
  )
