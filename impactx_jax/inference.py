"""A trained network as one object: images in, classes and maps out."""

from collections.abc import Callable
from collections.abc import Sequence
import dataclasses
import functools
from typing import NamedTuple

from attribution import chunks
from attribution.errors import InputError
from etils import epath
from impactx_jax import methods
from impactx_jax import user_files
from impactx_jax.data import columns
from impactx_jax.evaluation import guard as guard_lib
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import trained
import jax
import jax.numpy as jnp
import numpy as np

# Of a forward pass, at most.
BATCH_SIZE = 256


class Explained(NamedTuple):
  """What one forward pass says of N images.

  Attributes:
    classes: int [N], the predicted ones; of several labels an image, 0 or 1
      for each class, [N, K].
    probabilities: float32 [N, K].
    attribution: float32 [N, H, W, C'], the predicted maps; None for a method
      that has none.
    disagreement: float64 [N], how far each map is from a coarse one that was
      computed; see `evaluation.guard`. None where it was not checked.
    trusted: bool [N], whether that is no more than on validation images; None
      where it was not checked.
  """

  classes: np.ndarray
  probabilities: np.ndarray
  attribution: np.ndarray | None
  disagreement: np.ndarray | None = None
  trusted: np.ndarray | None = None


@dataclasses.dataclass(frozen=True)
class Model:
  """A trained network; see `load`.

  Attributes:
    method: Its name.
    class_names: [K].
    image_shape: (H, W, C) of the images it takes.
    map_r2: Share of the variance of validation images' maps that its maps
      explain; None where there were no maps to compare with.
    about_map: What its maps are, in a sentence.
    has_map_of_each: Whether it has a map for each class, and not only for the
      one that it predicts.
    guard: What decides whether a map is trusted; None where it is not
      calibrated.
    coarse: Images, classes int [N] -> the maps that it computes.
    call: Images float32 [N, H, W, C], classes int32 [N] that the maps are to be
      of, negative for the predicted ones -> (classes, probabilities,
      attribution, the classes that the maps are of).
  """

  method: str
  class_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  map_r2: float | None
  about_map: str
  has_map_of_each: bool
  guard: guard_lib.Guard | None
  coarse: Callable | None = dataclasses.field(repr=False)
  call: Callable = dataclasses.field(repr=False)

  def predict(
      self,
      images: np.ndarray,
      classes: int | str | Sequence[int | str] | None = None,
      *,
      check: bool = False,
  ) -> Explained:
    """Classifies and explains, in one pass.

    Args:
      images: [N, H, W, C], uint8, or floats in [0, 1].
      classes: What the maps are to be of, a number or a name for all images or
        one for each; None for the predicted classes.
      check: Whether the maps are compared with coarse ones, which are computed;
        `guard.evaluations` of the network an image.

    Raises:
      InputError: for images of another shape or range, or none; for classes
        that there are not, or where there is no map for each; for a check
        where there is no guard.
    """
    if check and classes is not None:
      raise InputError(
          'The guard is calibrated for the maps of the predicted classes. '
          'Leave out the classes, or the check.'
      )
    if check and self.guard is None:
      raise InputError(
          f'There is no guard for the maps of {self.method}: it is calibrated '
          'on validation images by --stage=evaluate, for a method that '
          'predicts maps of square images, explained with the masker blur, '
          'mean or constant. Run that, or leave the check out.'
      )
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != self.image_shape:
      wanted = ', '.join(map(str, self.image_shape))
      raise InputError(
          f'The network takes images [N, {wanted}], and these have the shape '
          f'{images.shape}.'
      )
    if not len(images):
      raise InputError('There are no images to classify: N is 0.')
    images = columns.to_float(images).astype(np.float32)
    if not (images.min() >= 0 and images.max() <= 1):
      raise InputError(
          f'Images are floats in [0, 1] or uint8, and these reach from '
          f'{images.min():g} to {images.max():g}.'
      )
    numbers = self._numbers(classes, len(images))
    # Another number of images in a batch would be compiled anew.
    *found, explained = chunks.in_chunks(
        self.call, images, numbers, size=min(BATCH_SIZE, len(images))
    )
    if not check:
      return Explained(*found)
    disagreement = guard_lib.disagreement(
        found[-1], self.coarse(images, explained), self.guard.grid
    )
    return Explained(
        *found, disagreement, disagreement <= self.guard.threshold
    )

  def _numbers(self, classes, count: int) -> np.ndarray:
    """Returns the number of each image's class; -1 for the predicted one."""
    if classes is None:
      return np.full(count, -1, np.int32)
    if not self.has_map_of_each:
      raise InputError(
          f'{self.method} has one map an image, of the class that it predicts, '
          'so that classes cannot be chosen. A network trained with '
          '--config.method.decoder_classes=all has one for each.'
      )
    if isinstance(classes, int | str | np.integer):
      classes = [classes] * count
    names = {name: i for i, name in enumerate(self.class_names)}
    found = [names.get(x, x) for x in classes]
    strange = [
        x for x in found
        if not isinstance(x, int | np.integer) or not 0 <= x < len(names)
    ]
    if strange:
      raise InputError(
          f'{strange[0]!r} is no class of this network. It has '
          f'{", ".join(self.class_names)}, or 0 to {len(names) - 1}.'
      )
    if len(found) != count:
      raise InputError(
          f'{len(found)} classes for {count} images: give one for all, or one '
          'for each.'
      )
    return np.array(found, np.int32)


def load(workdir: epath.PathLike, method: str = '') -> Model:
  """Restores a trained network from the workdir of a run.

  Args:
    workdir: Of the run.
    method: A method that was trained there, or 'baseline'; '' for the one that
      the run's config names.

  Raises:
    InputError: if it was not trained there, or cannot classify by itself.
  """
  home = artefact.open_workdir(workdir)
  config = configs.read(home)
  name = method or config.method.name
  found = artefact.trained(home, name, config)
  summary = found.load()
  if summary is None:
    there = ', '.join(_trained(home, config))
    raise InputError(
        f'{home} holds no trained {name}; '
        + (f'it has {there}.' if there else 'it has none.')
        + ' Change it with --method=NAME or --workdir=DIR.'
    )
  network, variables = trained.restore(found)
  if network.inputs != ('image',):
    raise InputError(
        f'{name} needs the attribution maps of an image to classify it, which '
        'no single forward pass gives. Choose another method with '
        '--method=NAME.'
    )
  task = network.task

  @jax.jit
  def compiled(variables, images, classes):
    batch = {'image': images}
    logits, attribution = network.predict(variables, batch)
    classes = jnp.where(classes < 0, task.top(logits), classes)
    if network.map_of:
      attribution = network.map_of(variables, batch, classes)
    return (
        task.answer(logits), task.probabilities(logits), attribution, classes
    )

  options = configs.read(found.directory).method
  guard = _guard(found, summary['digest'])
  return Model(
      method=user_files.stem(name),
      class_names=tuple(summary['data']['class_names']),
      image_shape=tuple(summary['data']['image_shape']),
      map_r2=summary.get('map_r2'),
      about_map=methods.find(name).about(options),
      has_map_of_each=network.map_of is not None,
      guard=guard,
      coarse=guard and functools.partial(
          guard.checker((network, variables)), variables
      ),
      call=functools.partial(compiled, jax.device_put(variables)),
  )


def _guard(found: artefact.Artefact, digest: str) -> guard_lib.Guard | None:
  """Returns the guard of a trained network, if it was calibrated for it."""
  path = found.directory / artefact.GUARD
  content = configs.read_json(path) if path.exists() else {}
  fields = {field.name for field in dataclasses.fields(guard_lib.Guard)}
  if content.get('digest') != digest or not fields <= content.keys():
    return None
  return guard_lib.Guard(**{name: content[name] for name in fields})


def _trained(home: epath.Path, config) -> list[str]:
  """Names what was trained in a workdir."""
  names = dict.fromkeys([*methods.METHODS, config.method.name])
  return [
      user_files.stem(name)
      for name in names
      if artefact.trained(home, name, config).load()
  ]
