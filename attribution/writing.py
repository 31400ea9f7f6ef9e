"""Maps of many images, kept in shards: written resumably, and read again."""

from collections.abc import Mapping
import dataclasses
import functools
import hashlib
from typing import Any

from attribution import explainers
from attribution import model_fn
from attribution import records
from attribution import service
from attribution.errors import check_at_least
from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.explainers import batched
from attribution.explainers import regions as region_lib
from etils import epath
import jax
import numpy as np

# What of an explainer is no setting: functions, of which no digest can be made,
# the variables, which have one of their own, and what changes no map.
_LEFT_OUT = ('score_fn', 'variables', 'layers', 'images_per_step')
# Columns that have an axis of classes, the last one.
_OF_CLASSES = ('classes', 'map', 'base_value', 'full_value')


def write_maps(
    explainer: Explainer,
    data: Mapping[str, np.ndarray],
    directory: epath.PathLike,
    *,
    shard_size: int = 256,
    model: str = '',
    allowed_gap: float | None = None,
) -> dict[str, Any]:
  """Explains images and keeps their maps in shards, with the images.

  A shard is whole or not there, so that a call that was killed is continued by
  the same call, from the first missing shard on, and ends with the same bytes.
  The manifest, written last, has the settings, the SHA-256 of each shard, and
  by how much maps miss their sum. A directory with maps of another explainer,
  other variables or other data is refused. The scoring function is a function,
  of which no digest can be made: name the model, or another one whose weights
  it holds itself is taken for the same.

  Args:
    explainer: What makes the maps.
    data: Columns, arrays of N rows: `image`, float32 [N, H, W, C] as the
      explainer takes them ([N, C, H, W] if it has channels_first), or uint8
      pictures, which are explained as image / 255; `label`, int [N], the class
      to explain, or [N, K'] for several. And as one likes `regions`, int
      [N, H, W], for an explainer of regions; `classes`, int [N] or [N, K'], to
      explain these in place of the label; `id`, text [N], each another, by
      default the row's number; `split`, text [N], by default 'train'; and any
      further columns of numbers or booleans, which the shards keep.
    directory: Where the shards go; it is made.
    shard_size: Images a shard.
    model: A name of what is explained, of which the directory is.
    allowed_gap: By how much a map may miss score(image) - score(hidden), beyond
      a thousandth of it, where it must sum to that. None is 1e-4 on a CPU and
      0.03 elsewhere, for scores up to 1, and in proportion for larger ones;
      models that compute in fewer bits need more.

  Returns:
    The manifest.

  Raises:
    InputError: a ValueError, for arguments that do not fit, or a directory of
      other maps.
    RuntimeError: if a map misses its sum by more than is allowed.
  """
  if not isinstance(explainer, Explainer):
    raise InputError(
        f'The explainer is of the type {type(explainer).__name__}; it must be '
        'an attribution.Explainer.'
    )
  if explainer.layers is not None and not model:
    raise InputError(
        'The functions of layers= have no digest by which other maps could be '
        "told from these: give model='name', another one for other layers."
    )
  check_at_least('shard_size', shard_size, 1)
  examples = _examples(data, explainer)
  explainer = _for_regions(explainer, examples)
  images, classes = examples['image'], examples['classes']
  score_fn = model_fn.ScoreOfAny(
      explainer.score_fn, explainer.variables is not None,
      explainer.channels_first,
  )
  batched.check_labels(
      classes, score_fn, explainer.variables, images.shape[1:]
  )
  # Accelerators multiply float32 in fewer bits, unless they are told not to.
  cpu = jax.default_backend() == 'cpu'
  score = functools.partial(
      model_fn.numpy_callable(score_fn, min(256, shard_size)),
      explainer.variables,
  )
  if allowed_gap is None:
    largest = float(np.abs(score(service.to_float(images[:1]))).max())
    allowed_gap = (1e-4 if cpu else 3e-2) * max(1.0, largest)
  # A few seconds of work between two steps of the progress bar.
  few = 8 if explainer.explainer == 'shap_partition' else 64
  return service.write_maps(
      directory,
      examples,
      service.MapMaker(
          explain=explainer.of_channels_last,
          score=score,
          background=explainer.hides.background,
          evaluations=explainer.evaluations,
          chunk=min(few, shard_size) if cpu else shard_size,
          complete=explainers.find(explainer.explainer).complete,
          absolute_gap=allowed_gap,
          further=('regions',) if 'regions' in examples else (),
      ),
      settings={
          'model': model,
          'explainer': _options(explainer),
          'variables': _digest(explainer.variables),
          'data': {
              name: _digest(column) for name, column in examples.items()
          },
          'shard_size': shard_size,
          # Images, and maps, are turned back when they are read.
          **({'channels_first': True} if explainer.channels_first else {}),
      },
      facts={'provenance': {
          'jax': jax.__version__, 'device': jax.devices()[0].device_kind,
      }},
      shard_size=shard_size,
  )


def read_maps(
    directory: epath.PathLike,
) -> tuple[records.Columns, dict[str, Any]]:
  """Reads what `write_maps` has written, and checks every shard.

  Args:
    directory: Where the shards and the manifest are.

  Returns:
    The columns that were given, in their order, and `map` (float32 [N, H, W, C,
    K'], or [N, C, H, W, K'] of an explainer with channels_first, as the
    images), `classes` (int [N, K']), which were explained, `full_value` and
    `base_value` (float32 [N, K']), their scores of the image and of the image
    with everything hidden. For one class an image these four are without the
    last axis. And the manifest.

  Raises:
    InputError: a ValueError, if there are no maps, or they are not complete, or
      a shard is not the one that was written.
  """
  columns, manifest = records.read(directory)
  if columns['classes'].shape[1] == 1:
    columns |= {name: columns[name][..., 0] for name in _OF_CLASSES}
  if manifest.get('channels_first'):
    columns |= {
        name: np.moveaxis(columns[name], 3, 1) for name in ('image', 'map')
    }
  return columns, manifest


def _examples(
    data: Mapping[str, np.ndarray], explainer: Explainer
) -> records.Columns:
  """Checks the columns and adds those that may be left out."""
  columns = {name: np.asarray(column) for name, column in data.items()}
  explained = 'classes' if 'classes' in columns else 'label'
  if missing := {'image', explained} - columns.keys():
    raise InputError(
        f'The data have no column {" and no column ".join(sorted(missing))}, '
        f'only {", ".join(columns) or "none at all"}: give {{"image": images, '
        '"label": labels}.'
    )
  images, count = columns['image'], len(columns['image'])
  if not count or images.ndim != 4:
    layout = '[N, C, H, W]' if explainer.channels_first else '[N, H, W, C]'
    raise InputError(
        f'The images have the shape {images.shape}: give some, {layout}.'
    )
  if explainer.channels_first:
    columns['image'] = images = np.moveaxis(images, 1, 3)
  if images.dtype.kind == 'f':
    columns['image'] = images = images.astype(np.float32)
    if not np.isfinite(images).all():
      raise InputError(
          'Some images have NaN or infinity: give finite floats, or leave '
          'these images out.'
      )
  elif images.dtype != np.uint8:
    raise InputError(
        f'The images are {images.dtype}: give uint8 pictures, which are '
        'explained as image / 255, or floats as the explainer takes them.'
    )
  for name in _OF_CLASSES[1:]:
    if name in columns:
      raise InputError(
          f'The column {name!r} is made here: leave it out, or rename it.'
      )
  columns.setdefault('id', np.array([f'{i:07d}' for i in range(count)]))
  columns.setdefault('split', np.full(count, 'train'))
  wrong = {n: c.shape for n, c in columns.items() if c.shape[:1] != (count,)}
  if wrong:
    raise InputError(
        f'There are {count} images, and other numbers of rows in: {wrong}. '
        'Give a row an image in each column.'
    )
  for name in ('id', 'split'):
    if columns[name].ndim != 1:
      raise InputError(f'The column {name!r} is not [N]: give one an image.')
    columns[name] = columns[name].astype(str)
  ids, counts = np.unique(columns['id'], return_counts=True)
  if len(ids) < count:
    raise InputError(
        f'The id {str(ids[counts.argmax()])!r} is there {counts.max()} times: '
        'give each image another, or none.'
    )
  batched.check_inputs(images, columns[explained])
  columns['classes'] = columns[explained].reshape(count, -1).astype(np.int32)
  records.check_further(columns)
  return columns


def _for_regions(
    explainer: Explainer, examples: records.Columns
) -> Explainer:
  """Returns an explainer for which all calls have as many regions."""
  if 'regions' not in examples:
    if explainer.num_regions is not None:
      raise InputError(
          f'The explainer was made for {explainer.num_regions} regions: give '
          "them as the column 'regions', int [N, H, W]."
      )
    return explainer
  explainer.check_takes_regions()
  given = examples['regions']
  if given.shape != examples['image'].shape[:3]:
    raise InputError(
        f'The regions are of shape {given.shape}; give one array an image, '
        f'{examples["image"].shape[:3]}: of the same for all, '
        'np.broadcast_to(regions, (N, H, W)).'
    )
  # Checked at once: a shard far on would else stop the run.
  region_lib.checked(given, examples['image'], explainer.num_regions)
  examples['regions'] = given.astype(np.int32)
  if explainer.num_regions is not None:
    return explainer
  return dataclasses.replace(explainer, num_regions=int(given.max()) + 1)


def _options(explainer: Explainer) -> dict[str, Any]:
  """The options that decide a map, as JSON can keep them."""
  taken = {'explainer', *explainers.options_of(explainer.explainer)}
  if 'masker' in taken:
    taken |= {'blur_kernel', 'mask_value'}
  return {
      field.name: _setting(getattr(explainer, field.name))
      for field in dataclasses.fields(explainer)
      if field.init and field.name in taken and field.name not in _LEFT_OUT
  }


def _setting(value: Any) -> Any:
  array = np.asarray(value)
  return array.tolist() if array.size < 10 else _digest(array)


def _digest(tree: Any) -> str | None:
  """Returns a digest of a tree of arrays and where they are; None for None."""
  if tree is None:
    return None
  digest = hashlib.sha256()
  for path, leaf in jax.tree.leaves_with_path(tree):
    if isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(
        leaf.dtype, jax.dtypes.prng_key
    ):
      leaf = jax.random.key_data(leaf)
    array = np.ascontiguousarray(leaf)
    header = jax.tree_util.keystr(path), str(array.dtype), array.shape
    digest.update(repr(header).encode())
    digest.update(array.tobytes())
  return digest.hexdigest()[:16]
