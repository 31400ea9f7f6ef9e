"""What the explainers on the device share: masks, and batches of one size.

An explainer is a program: a pure, jittable function from the variables of a
model and a batch of images and classes to maps. `batched` makes of it an
`explain(variables, images, labels)` for any number of images, compiled once
and spread over the devices.
"""

from collections.abc import Callable
import functools
import inspect
import math

from attribution import chunks
from attribution import devices
from attribution import maskers
from attribution import model_fn
from attribution.errors import check_at_least
from attribution.errors import InputError
from attribution.explainers import partition_tree
from attribution.explainers import regions as region_lib
from attribution.explainers.partition_tree import PartitionTree
from attribution.maskers import Masker
from attribution.model_fn import ScoreFn
from attribution.model_fn import Variables
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

# variables, images float32 [N, H, W, C], labels int [N] -> maps float32
# [N, H, W, C]; or labels int [N, K'] -> maps [N, H, W, C, K']. One that was
# made for regions takes them as well, int32 [N, H, W].
Explain = Callable[..., np.ndarray]
# variables, images [N, H, W, C], classes int32 [N, K'] ->
# maps [N, H, W, C, K']; with regions as above.
Program = Callable[..., jax.Array]
Keys = tuple[jax.Array, jax.Array]
# `partition_tree.visibility_keys` [N or 1, n, …] -> scores float32 [N, n, K'];
# or also int32 [], the first how many of the n count: the others may be 0.
ScoreMasks = Callable[..., jax.Array]

# Bounds of one call of the model: the bytes of its largest intermediate array,
# and the number of images. A CPU is fastest while they stay in its cache.
CALL_BYTES = {'cpu': 6 * 2**20, 'other': 2**30}
CALL_IMAGES = {'cpu': 512, 'other': 16384}


def images_per_call(
    score_fn: ScoreFn, variables: Variables, shape: tuple[int, int, int]
) -> int:
  """Returns the largest number of images in one call of the model."""
  device = 'cpu' if jax.default_backend() == 'cpu' else 'other'
  known = model_fn.inspect(score_fn, variables, shape)
  limit = min(CALL_IMAGES[device], CALL_BYTES[device] // known.image_bytes)
  return max(1, limit)


def masked_scorer(
    score: Callable[[jax.Array], jax.Array],
    images: jax.Array,
    backgrounds: jax.Array,
    classes: jax.Array,
    limit: int,
    regions: jax.Array | None = None,
) -> ScoreMasks:
  """Builds the function that scores masked images.

  Args:
    score: Images [B, H, W, C] -> scores [B, K].
    images: float32 [N, H, W, C].
    backgrounds: float32 [N, H, W, C], what hidden pixels are replaced by.
    classes: int32 [N, K'].
    limit: The largest number of images in one call of the model.
    regions: int32 [N, H, W], if the tree is one of regions.
  """
  count, height, width, channels = images.shape
  # A row's columns and channels in one axis: long enough for vector units.
  images = images.reshape(count, 1, height, width * channels)
  backgrounds = backgrounds.reshape(images.shape)
  if regions is not None:
    regions = jnp.repeat(regions.reshape(count, -1), channels, axis=1)

  def score_masks(keys):
    rows, columns = keys
    visible = rows[..., :, None] + columns[..., None, :] > 0
    if regions is not None:  # Of the tree's one row, to pixels.
      visible = jax.vmap(lambda shown, region: shown[:, 0][:, region])(
          jnp.broadcast_to(visible, (count, *visible.shape[1:])), regions
      ).reshape(count, -1, height, width * channels)
    masked = jnp.where(visible, images, backgrounds)
    scores = score(masked.reshape(-1, height, width, channels))
    scores = scores.astype(jnp.float32).reshape(count, masked.shape[1], -1)
    return jnp.take_along_axis(scores, classes[:, None, :], axis=-1)

  def score_in_parts(keys, used=None):
    masks = keys[0].shape[1]
    parts = -(-masks // max(1, limit // count))
    if parts == 1:
      return score_masks(keys)
    size = -(-masks // parts)
    parts = -(-masks // size)
    padding = (0, 0), (0, parts * size - masks), (0, 0)
    keys = tuple(
        jnp.pad(x, padding, mode='edge')
        .reshape(x.shape[0], parts, size, x.shape[2])
        .swapaxes(0, 1)
        for x in keys
    )
    if used is None:
      scores = lax.map(score_masks, keys)
    else:
      scores = lax.fori_loop(
          0, -(-used // size),
          lambda i, scores: scores.at[i].set(
              score_masks(tuple(x[i] for x in keys))
          ),
          jnp.zeros((parts, count, size, classes.shape[1])),
      )
    scores = scores.swapaxes(0, 1)
    return scores.reshape(count, parts * size, -1)[:, :masks]

  return score_in_parts


def tree_program(
    credit: Callable[[PartitionTree, ScoreMasks, jax.Array], jax.Array],
    score_fn: ScoreFn,
    masker: Masker,
    num_regions: int = 0,
) -> Program:
  """Makes a program of what scores the masks of the partition tree.

  Args:
    credit: Takes the tree of the images, what scores its masks, and bool
      [1 or N, M], which nodes have more than one feature; gives the credit of
      each node, float32 [N, M, K'], which its features share.
    score_fn: (variables, images [B, H, W, C]) -> scores [B, K].
    masker: One that has a background.
    num_regions: Of the user's regions, whose numbers the tree halves as if they
      were the pixels of one row; 0 for a tree of pixels.

  Raises:
    InputError: for another masker.
  """
  check_background(masker)

  def program(variables, images, classes, regions=None):
    shape = images.shape[1:]
    score_masks = masked_scorer(
        functools.partial(score_fn, variables),
        images,
        masker.background(images),
        classes,
        images_per_call(score_fn, variables, shape),
        regions,
    )
    if regions is None:
      tree = partition_tree.build_tree(shape)
      sizes = jnp.asarray(tree.sizes)[None]
      return partition_tree.spread(
          tree, sizes, credit(tree, score_masks, sizes > 1)
      )
    tree = partition_tree.build_tree((1, num_regions, 1))
    there = region_lib.there(regions, num_regions)
    sizes = partition_tree.sizes_of(tree, there)
    found = partition_tree.spread(
        tree, sizes, credit(tree, score_masks, sizes > 1)
    )[:, 0, :, 0] * there[..., None]
    return region_lib.spread(found, regions, shape[2])

  return program


def batched(
    program: Program,
    score_fn: ScoreFn,
    *,
    images_per_step: int | None,
    evals_per_step: int,
) -> Explain:
  """Makes an explainer of any number of images from a program for a batch.

  Args:
    program: Of the scoring function.
    score_fn: Hashable, (variables, images) -> scores [B, K].
    images_per_step: Rows of a batch on each device; None chooses.
    evals_per_step: Evaluations of an image in one call of the model.

  Raises:
    InputError: for settings that cannot be met.
  """
  if images_per_step is not None:
    check_at_least('images_per_step', images_per_step, 1)
  compiled = devices.over_rows(program)

  def explain(
      variables: Variables,
      images: np.ndarray,
      labels: np.ndarray,
      *regions: np.ndarray,
  ) -> np.ndarray:
    images, labels = np.asarray(images, np.float32), np.asarray(labels)
    check_inputs(images, labels)
    shape, classes = images.shape[1:], labels.shape[1:]
    if not labels.size:
      return np.zeros((*images.shape, *classes), np.float32)
    check_labels(labels, score_fn, variables, shape)
    count = jax.local_device_count()
    rows = images_per_step
    if rows is None:
      limit = images_per_call(score_fn, variables, shape)
      # A power of two, so that common numbers of images divide evenly; fewer
      # images are rounded up to one, so that not each number is compiled anew.
      few = (-(-len(images) // count) - 1).bit_length()
      rows = 1 << min(round(math.log2(max(1, limit / evals_per_step))), few)
    variables = devices.replicate(variables)  # Once, not for every chunk.
    maps = chunks.in_chunks(
        functools.partial(compiled, variables),
        images,
        labels.reshape(len(labels), -1).astype(np.int32),
        *regions,
        size=rows * count,
    )
    return maps.reshape(*maps.shape[:4], *classes)

  return explain


def factory(
    program: Callable[..., Program], *, evals_per_step: int = 1
) -> Callable[..., Explain]:
  """Makes the factory of an explainer from what builds its program.

  Args:
    program: (score_fn, *, options) -> the program.
    evals_per_step: Evaluations of an image in one call of the model.

  Returns:
    (score_fn, *, options, images_per_step) -> `explain(variables, images,
    labels) -> maps`, see `attribution.explainers`.
  """

  @functools.wraps(program)
  def create(score_fn, *, images_per_step=None, **options):
    return batched(
        program(score_fn, **options), score_fn,
        images_per_step=images_per_step, evals_per_step=evals_per_step,
    )

  # What it takes is asked of its signature.
  signature = inspect.signature(program)
  create.__signature__ = signature.replace(parameters=[
      *signature.parameters.values(),
      inspect.Parameter(
          'images_per_step', inspect.Parameter.KEYWORD_ONLY, default=None
      ),
  ])
  return create


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
  # Three classes and more, of which an image has the first again and again.
  if labels.ndim == 2 and labels.shape[1] > 2 and len(labels) and (
      ((labels == 0) | (labels == 1)).all() and (labels.sum(axis=1) == 1).all()
  ):
    raise InputError(
        f'Labels of shape {labels.shape} are one-hot rows, and would be taken '
        'for the classes to explain of each image: give labels.argmax(axis=1).'
    )


def check_labels(
    labels: np.ndarray,
    score_fn: ScoreFn,
    variables: Variables,
    shape: tuple[int, int, int],
) -> None:
  """Raises InputError for a label that is no class."""
  num_classes = model_fn.inspect(score_fn, variables, shape).num_classes
  if not 0 <= labels.min() <= labels.max() < num_classes:
    raise InputError(
        f'Labels from {labels.min()} to {labels.max()}, but there are '
        f'{num_classes} scores: give labels from 0 to {num_classes - 1}.'
    )


def check_background(masker: Masker) -> None:
  """Raises InputError for a masker that fills in each mask anew."""
  if masker.inpaints:
    raise InputError(
        f'The masker {masker.name!r} is for explainer=shap_partition alone; '
        f'this explainer takes {", ".join(maskers.BACKGROUND_MASKERS)}.',
        'masker',
        'NAME',
    )
