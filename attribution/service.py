"""The shard loop: explains examples and writes their maps, resumably."""

from collections.abc import Callable
import concurrent.futures
import dataclasses
import shutil
import time
from typing import Any

from absl import logging
from attribution import files
from attribution import records
from attribution.errors import differences
from attribution.errors import InputError
from attribution.explainers import Explain
from etils import epath
import humanize
import numpy as np
from tqdm.auto import tqdm

SETTINGS = 'settings.json'
# Beyond this share of f(x) - f(masked), and `MapMaker.absolute_gap` at all,
# a map that should be complete shows a bug of the explainer or of the masker.
RELATIVE_GAP = 1e-3


@dataclasses.dataclass(frozen=True)
class MapMaker:
  """What makes the maps: closures over the network that is explained.

  Attributes:
    explain: images float32 [N, H, W, C], classes int [N, K'] -> maps
      [N, H, W, C, K'].
    score: NumPy callable, images [N, H, W, C] -> scores [N, K].
    background: images -> the same images with every pixel hidden.
    evaluations: Model evaluations an image, for the estimate.
    chunk: Images in one call of `explain`, and between two steps of the
      progress bar.
    complete: Whether a map must sum to f(x) - f(masked).
    absolute_gap: By how much it may miss that, beyond a thousandth: what the
      rounding of a score can differ between two sizes of a batch.
    weigh: Scores [N, K'] of the explained classes -> weights [N, K'], to keep
      one map an image, the weighted sum of theirs, instead of each.
    further: Names of columns that `explain` takes as well, after the classes.
  """

  explain: Explain
  score: Callable[[np.ndarray], np.ndarray]
  background: Callable[[np.ndarray], np.ndarray]
  evaluations: int
  chunk: int = 32
  complete: bool = True
  absolute_gap: float = 1e-4
  weigh: Callable[[np.ndarray], np.ndarray] | None = None
  further: tuple[str, ...] = ()

  def maps_of(self, examples: records.Columns, rows: slice) -> np.ndarray:
    """Explains some rows: maps float32 [n, H, W, C, K']."""
    names = ('classes', *self.further)
    return self.explain(
        to_float(examples['image'][rows]), *(examples[n][rows] for n in names)
    )


def write_maps(
    directory: epath.PathLike,
    examples: records.Columns,
    maker: MapMaker,
    *,
    settings: dict[str, Any],
    facts: dict[str, Any],
    shard_size: int,
    process_index: int = 0,
    process_count: int = 1,
    barrier: Callable[[], None] = lambda: None,
) -> dict[str, Any]:
  """Explains every example and writes shards and, last, the manifest.

  Shards that are there and whole are kept, so a run that was killed continues
  with the first missing one and ends with the same bytes.

  Args:
    directory: Where the shards go.
    examples: Columns `id`, `split`, `image` (uint8 [N, H, W, C], explained as
      image / 255, or float32, explained as they are) and `classes` (int
      [N, K']), those to explain, and any further ones, which the shards keep;
      see `records.write_shard`.
    maker: The classifier and its explainer.
    settings: What decides the maps (classifier, explainer, data); shards of
      other settings are refused. Becomes entries of the manifest.
    facts: Further entries of the manifest, such as versions and device.
    shard_size: Examples a shard.
    process_index: This process; it explains every process_count-th shard.
    process_count: The number of processes that share the directory.
    barrier: Waits until all processes have called it.

  Returns:
    The manifest.

  Raises:
    InputError: for too little disk space, shards of other settings, or a
      column that shards cannot keep.
    RuntimeError: if a map is not complete although it should be.
  """
  records.check_further(examples)
  directory = epath.Path(directory)
  directory.mkdir(parents=True, exist_ok=True)
  _claim(directory, settings, write=process_index == 0)
  count = len(examples['id'])
  num_shards = -(-count // shard_size)
  paths = [
      directory / records.shard_name(i, num_shards) for i in range(num_shards)
  ]
  slices = [
      slice(i * shard_size, min(count, (i + 1) * shard_size))
      for i in range(num_shards)
  ]
  mine = range(process_index, num_shards, process_count)
  missing = [
      i for i in mine if not _is_whole(paths[i], examples['id'][slices[i]])
  ]
  todo = sum(slices[i].stop - slices[i].start for i in missing)
  if todo:
    logging.info(
        'Of this process\'s %d shards, %d are there already.',
        len(mine), len(mine) - len(missing),
    )
    _estimate(directory, examples, maker, todo)
  # One shard is written while the next is explained.
  with concurrent.futures.ThreadPoolExecutor(1) as writer, tqdm(
      total=todo, unit='image', desc='maps', disable=not todo
  ) as progress:
    pending = None
    for i in missing:
      part = {name: column[slices[i]] for name, column in examples.items()}
      columns = _explain_shard(part, maker, progress)
      if pending:
        pending.result()
      pending = writer.submit(records.write_shard, paths[i], columns)
    if pending:
      pending.result()
  barrier()
  if process_index == 0:
    manifest = _manifest(paths, slices, examples, settings, facts)
    files.write_json(directory / records.MANIFEST, manifest)
  barrier()
  return records.read_manifest(directory)


def _claim(
    directory: epath.Path, settings: dict[str, Any], *, write: bool
) -> None:
  """Checks the settings of an old directory; `write` records a new one's.

  One process writes: two that rename the same temporary file would collide.
  """
  path = directory / SETTINGS
  if not path.exists():
    if write:
      files.write_json(path, settings)
    return
  if differing := differences(files.read_json(path), files.as_json(settings)):
    raise InputError(
        f'{directory} holds maps made with other settings: {differing}. Delete '
        'the directory to make them anew, or use another directory.'
    )


def _is_whole(path: epath.Path, ids: np.ndarray) -> bool:
  if not path.exists():
    return False
  try:
    return np.array_equal(records.read_shard(path)['id'], ids)
  except InputError:
    logging.warning('%s is damaged and will be made again.', path.name)
    return False


def _estimate(
    directory: epath.Path,
    examples: records.Columns,
    maker: MapMaker,
    todo: int,
) -> None:
  """Prints what is to come, and checks that the disk has room for it."""
  given = sum(np.asarray(column[0]).nbytes for column in examples.values())
  maps = 1 if maker.weigh else examples['classes'].shape[1]
  size = todo * (given + 4 * maps * examples['image'][0].size + 256)
  logging.info(
      'To explain: %d images x %d evaluations = %s evaluations; %s on disk.',
      todo, maker.evaluations, f'{todo * maker.evaluations:,}',
      humanize.naturalsize(size),
  )
  if '://' not in str(directory):
    free = shutil.disk_usage(directory).free
    if size > free:
      raise InputError(
          f'The maps need {humanize.naturalsize(size)} and {directory} has '
          f'{humanize.naturalsize(free)} free. Explain fewer images, or use '
          'another directory.'
      )
  few = slice(0, min(maker.chunk, len(examples['id'])))
  maker.maps_of(examples, few)  # Compiles.
  start = time.monotonic()
  maker.maps_of(examples, few)
  seconds = (time.monotonic() - start) / few.stop
  logging.info(
      'Estimated time: %s (%.3f s an image).',
      humanize.precisedelta(seconds * todo, minimum_unit='seconds',
                            format='%0.0f'),
      seconds,
  )


def _explain_shard(
    part: records.Columns, maker: MapMaker, progress: tqdm
) -> records.Columns:
  """Explains the examples of one shard, and checks each map."""
  maps = []
  images, classes = to_float(part['image']), part['classes']

  def score(images):
    return np.take_along_axis(maker.score(images), classes, axis=1)

  full, base = score(images), score(np.asarray(maker.background(images)))
  weights = maker.weigh(full) if maker.weigh else None
  for start in range(0, len(images), maker.chunk):
    chunk = slice(start, start + maker.chunk)
    values = maker.maps_of(part, chunk)
    if weights is not None:
      values = np.einsum('nhwck,nk->nhwc', values, weights[chunk])[..., None]
    maps.append(values)
    progress.update(len(values))
  maps = np.concatenate(maps)
  if weights is not None:
    classes = np.full((len(images), 1), records.WEIGHTED, np.int32)
    full, base = (
        (weights * x).sum(axis=1, keepdims=True) for x in (full, base)
    )
  columns = {
      **part,
      'classes': classes,
      'map': maps,
      'base_value': base,
      'full_value': full,
  }
  gap = completeness_gap(columns)
  allowed = maker.absolute_gap + RELATIVE_GAP * np.abs(full - base)
  allowed = allowed.max(axis=1)
  if not maker.complete:
    allowed = np.inf
  # Written so that a NaN fails, whatever is allowed.
  wrong = np.flatnonzero(~(gap <= allowed))
  if len(wrong):
    first = wrong[0]
    raise RuntimeError(
        f'The map of {part["id"][first]} sums to '
        f'{maps[first, ..., 0].sum():.6f}, but f(x) - f(masked) is '
        f'{full[first, 0] - base[first, 0]:.6f}: the explainer or the masker '
        'is at fault, or the model computes in fewer bits than the allowed gap '
        f'of {maker.absolute_gap:.1e} is for. Nothing of this shard was '
        'written.'
    )
  return columns


def completeness_gap(columns: records.Columns) -> np.ndarray:
  """Returns |sum of the map - (full value - base value)|, float [N].

  For several classes an example, the largest gap among them.
  """
  total = columns['map'].astype(np.float64).sum(axis=(1, 2, 3))
  gap = np.abs(total - (columns['full_value'] - columns['base_value']))
  return gap.max(axis=1)


def to_float(images: np.ndarray) -> np.ndarray:
  """Returns images as they are explained: uint8 / 255, floats as they are."""
  images, whole = images.astype(np.float32), images.dtype.kind != 'f'
  return images / 255 if whole else images


def _manifest(paths, slices, examples, settings, facts) -> dict[str, Any]:
  """Describes the finished shards, as they are on disk."""
  gaps = [completeness_gap(records.read_shard(path)) for path in paths]
  splits, counts = np.unique(examples['split'], return_counts=True)
  return {
      **settings,
      **facts,
      'examples': {
          str(split): int(n) for split, n in zip(splits, counts, strict=True)
      },
      'completeness': {
          'largest_gap': float(np.max(np.concatenate(gaps))),
          'mean_gap': float(np.mean(np.concatenate(gaps))),
      },
      'shards': [
          {
              'name': path.name,
              'examples': part.stop - part.start,
              'sha256': records.checksum(path),
          }
          for path, part in zip(paths, slices, strict=True)
      ],
  }
