"""What the explainers on the device share: masks, and batches of one size.

An explainer is a program: a pure, jittable function from a batch of images and
classes to maps. `batched` makes of it an `explain(images, labels)` for any
number of images, compiled once and spread over the devices.
"""

from collections.abc import Callable
import math

from attribution import maskers
from attribution.errors import InputError
from attribution.explainers import partition_tree
from attribution.explainers.partition_tree import PartitionTree
from impactx_jax import parallel
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

ScoreFn = Callable[[jax.Array], jax.Array]
Explain = Callable[[np.ndarray, np.ndarray], np.ndarray]
# images [N, H, W, C], backgrounds alike, classes int32 [N, K'] ->
# maps [N, H, W, C, K'].
Run = Callable[[jax.Array, jax.Array, jax.Array], jax.Array]
# images [N, H, W, C], classes int32 [N, K'] -> maps [N, H, W, C, K'].
Program = Callable[[jax.Array, jax.Array], jax.Array]
Keys = tuple[jax.Array, jax.Array]

# Bounds of one call of the model: the bytes of its largest intermediate array,
# and the number of images. A CPU is fastest while they stay in its cache.
CALL_BYTES = {'cpu': 6 * 2**20, 'other': 2**30}
CALL_IMAGES = {'cpu': 512, 'other': 16384}


def masked_scorer(
    score_fn: ScoreFn,
    images: jax.Array,
    backgrounds: jax.Array,
    classes: jax.Array,
    limit: int,
) -> Callable[[Keys], jax.Array]:
  """Builds the function that scores masked images.

  Args:
    score_fn: Images [B, H, W, C] -> scores [B, K].
    images: float32 [N, H, W, C].
    backgrounds: float32 [N, H, W, C], what hidden pixels are replaced by.
    classes: int32 [N, K'].
    limit: The largest number of images in one call of the model.

  Returns:
    A function of `partition_tree.visibility_keys` [N or 1, n, …] that gives
    the scores of the classes, float32 [N, n, K'].
  """
  count, height, width, channels = images.shape
  # A row's columns and channels in one axis: long enough for vector units.
  images = images.reshape(count, 1, height, width * channels)
  backgrounds = backgrounds.reshape(images.shape)

  def score(keys):
    rows, columns = keys
    visible = rows[..., :, None] + columns[..., None, :] > 0
    masked = jnp.where(visible, images, backgrounds)
    scores = score_fn(masked.reshape(-1, height, width, channels))
    scores = scores.astype(jnp.float32).reshape(count, masked.shape[1], -1)
    return jnp.take_along_axis(scores, classes[:, None, :], axis=-1)

  def score_in_parts(keys):
    masks = keys[0].shape[1]
    parts = -(-masks // max(1, limit // count))
    if parts == 1:
      return score(keys)
    size = -(-masks // parts)
    parts = -(-masks // size)
    padding = (0, 0), (0, parts * size - masks), (0, 0)
    keys = tuple(
        jnp.pad(x, padding, mode='edge')
        .reshape(x.shape[0], parts, size, x.shape[2])
        .swapaxes(0, 1)
        for x in keys
    )
    scores = lax.map(score, keys).swapaxes(0, 1)
    return scores.reshape(count, parts * size, -1)[:, :masks]

  return score_in_parts


def make_program(
    build: Callable[[PartitionTree, int], Run],
    score_fn: ScoreFn,
    shape: tuple[int, int, int],
    **masking,
) -> Program:
  """Makes a pure, jittable function from images and classes to maps.

  Args:
    build: Takes the tree of the images and the largest number of images in
      one call of the model.
    score_fn: Images [B, H, W, C] -> scores [B, K].
    shape: (H, W, C) of the images.
    **masking: `masker`, `blur_kernel` and `mask_value`, see
      `attribution.maskers`.
  """
  _, limit = inspect(score_fn, shape)
  run = build(partition_tree.build_tree(shape), limit)

  def program(images, classes):
    return run(images, maskers.background(images, **masking), classes)

  return program


def batched(
    make: Callable[[tuple[int, int, int]], Program],
    score_fn: ScoreFn,
    *,
    images_per_step: int | None,
    evals_per_step: int,
) -> Explain:
  """Makes an explainer of any number of images from a program for a batch.

  Args:
    make: Takes (H, W, C) and returns the program.
    score_fn: Images -> scores [B, K].
    images_per_step: Rows of a batch on each device; None chooses.
    evals_per_step: Evaluations of an image in one call of the model.

  Raises:
    InputError: for settings that cannot be met.
  """
  if images_per_step is not None:
    check_at_least('images_per_step', images_per_step, 1)
  inspected, programs = {}, {}

  def explain(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    check_inputs(images, labels)
    shape, classes = images.shape[1:], labels.shape[1:]
    if not labels.size:
      return np.zeros((*images.shape, *classes), np.float32)
    if shape not in inspected:
      inspected[shape] = inspect(score_fn, shape)
    num_classes, limit = inspected[shape]
    check_labels(labels, num_classes)
    devices = jax.local_device_count()
    rows = images_per_step
    if rows is None:
      # A power of two, so that common numbers of images divide evenly; fewer
      # images are rounded up to one, so that not each number is compiled anew.
      few = (-(-len(images) // devices) - 1).bit_length()
      rows = 1 << min(round(math.log2(max(1, limit / evals_per_step))), few)
    rows *= devices
    if shape not in programs:  # Compiles for each number of rows and classes.
      programs[shape] = parallel.over_rows(make(shape))
    labels = labels.reshape(len(labels), -1).astype(np.int32)
    maps, pending = [], None
    for start in range(0, len(images), rows):
      # The last rows are padded with the last image.
      index = np.minimum(np.arange(start, start + rows), len(images) - 1)
      # Dispatched before the result of the last batch is waited for.
      result = programs[shape](images[index], labels[index])
      if pending is not None:
        maps.append(np.asarray(pending))
      pending = result
    maps.append(np.asarray(pending))
    maps = np.concatenate(maps)[: len(images)]
    return maps.reshape(*images.shape, *classes)

  return explain


def check_masker(masker: str, blur_kernel: int | None) -> None:
  """Raises InputError for a masker that has no background."""
  maskers.check(masker, blur_kernel)
  if masker in maskers.INPAINT_MASKERS:
    raise InputError(
        f'The masker {masker!r} needs --config.attribution.explainer='
        'shap_partition; this explainer takes '
        f'{", ".join(maskers.BACKGROUND_MASKERS)}. Change either, the masker '
        'with --config.attribution.masker=NAME.'
    )


def check_inputs(images: np.ndarray, labels: np.ndarray) -> None:
  """Raises InputError for images and labels that do not go together."""
  if images.ndim != 4 or labels.ndim not in (1, 2):
    raise InputError(
        f'Images of shape {images.shape} and labels of shape {labels.shape}: '
        'give images [N, H, W, C] and labels [N] or [N, K].'
    )
  if len(images) != len(labels) or labels.dtype.kind not in 'iu':
    raise InputError(
        f'{len(images)} images and {len(labels)} labels of type '
        f'{labels.dtype}: give one integer, or one row of integers, an image.'
    )


def check_labels(labels: np.ndarray, num_classes: int) -> None:
  """Raises InputError for a label that is no class."""
  if not 0 <= labels.min() <= labels.max() < num_classes:
    raise InputError(
        f'Labels from {labels.min()} to {labels.max()}, but there are '
        f'{num_classes} scores: give labels from 0 to {num_classes - 1}.'
    )


def inspect(score_fn, shape):
  """Returns the number of classes, and how many images a call may have."""
  one, two = (
      jax.make_jaxpr(score_fn)(jax.ShapeDtypeStruct((n, *shape), jnp.float32))
      for n in (1, 2)
  )
  scores = [x.shape for x in two.out_avals]
  if len(scores) != 1 or len(scores[0]) != 2 or scores[0][0] != 2:
    raise InputError(
        'The scoring function must map images [B, H, W, C] to scores [B, K]; '
        f'for B = 2 it returns {scores}.'
    )
  # What one image more adds; arrays of weights do not count.
  sizes = zip(_array_sizes(one.jaxpr), _array_sizes(two.jaxpr), strict=False)
  largest = max([4 * math.prod(shape)] + [more - less for less, more in sizes])
  device = 'cpu' if jax.default_backend() == 'cpu' else 'other'
  limit = min(CALL_IMAGES[device], CALL_BYTES[device] // largest)
  return scores[0][1], max(1, limit)


def _array_sizes(jaxpr):
  """Returns the bytes of every array that is computed, at four a number."""
  sizes = []
  for equation in jaxpr.eqns:
    sizes += [4 * getattr(x.aval, 'size', 0) for x in equation.outvars]
    for inner in jax.tree.leaves(list(equation.params.values())):
      inner = getattr(inner, 'jaxpr', inner)
      if hasattr(inner, 'eqns'):
        sizes += _array_sizes(inner)
  return sizes


def check_at_least(name: str, value: int, least: int) -> None:
  """Raises InputError for a number that is too small."""
  if value < least:
    raise InputError(
        f'{name} is {value}; it must be {least} or more. Change it with '
        f'--config.attribution.{name}=N.'
    )
