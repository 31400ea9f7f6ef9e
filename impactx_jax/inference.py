"""A trained network as one object: images in, classes and maps out."""

from collections.abc import Callable
import dataclasses
from typing import NamedTuple

from attribution.errors import InputError
from etils import epath
from impactx_jax import methods
from impactx_jax import restore
from impactx_jax import workdirs
from impactx_jax.data import batches
import jax
import numpy as np


# Of a forward pass, at most.
BATCH_SIZE = 256


class Explained(NamedTuple):
  """What one forward pass says of N images.

  Attributes:
    classes: int [N], the predicted ones.
    probabilities: float32 [N, K].
    attribution: float32 [N, H, W, C'], the predicted maps; None for a method
      that has none.
  """

  classes: np.ndarray
  probabilities: np.ndarray
  attribution: np.ndarray | None


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
    call: Images float32 [N, H, W, C] -> (probabilities, attribution).
  """

  method: str
  class_names: tuple[str, ...]
  image_shape: tuple[int, int, int]
  map_r2: float | None
  about_map: str
  call: Callable = dataclasses.field(repr=False)

  def predict(self, images: np.ndarray) -> Explained:
    """Classifies and explains, in one forward pass.

    Args:
      images: [N, H, W, C], uint8, or floats in [0, 1].

    Raises:
      InputError: for images of another shape or range, or none.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1:] != self.image_shape:
      wanted = ', '.join(map(str, self.image_shape))
      raise InputError(
          f'The network takes images [N, {wanted}], and these have the shape '
          f'{images.shape}.'
      )
    if not len(images):
      raise InputError('There are no images to classify: N is 0.')
    images = batches.to_float(images).astype(np.float32)
    if not (images.min() >= 0 and images.max() <= 1):
      raise InputError(
          f'Images are floats in [0, 1] or uint8, and these reach from '
          f'{images.min():g} to {images.max():g}.'
      )
    parts = []
    for start in range(0, len(images), BATCH_SIZE):
      # The last batch is padded: another size would be compiled anew.
      rows = np.arange(start, start + min(BATCH_SIZE, len(images)))
      part = images[np.minimum(rows, len(images) - 1)]
      parts.append(jax.device_get(self.call(part)))
    probabilities, attribution = jax.tree.map(
        lambda *x: np.concatenate(x)[: len(images)], *parts
    )
    return Explained(probabilities.argmax(-1), probabilities, attribution)


def load(workdir: epath.PathLike, method: str = '') -> Model:
  """Restores a trained network from the workdir of a run.

  Args:
    workdir: Of the run.
    method: A method that was trained there, or 'baseline'; '' for the one that
      the run's config names.

  Raises:
    InputError: if it was not trained there, or cannot classify by itself.
  """
  home = workdirs.open_workdir(workdir)
  name = method or workdirs.read_config(home).method.name
  stage = 'classifier' if name == methods.BASELINE else name
  trained = [
      other
      for other in methods.METHODS
      if workdirs.read_summary(
          home / ('classifier' if other == methods.BASELINE else other)
      )
  ]
  if name not in trained:
    raise InputError(
        f'{home} holds no trained {name}; '
        + (f'it has {", ".join(trained)}.' if trained else 'it has none.')
        + ' Change it with --method=NAME or --workdir=DIR.'
    )
  network, variables = restore.network(home, stage)
  if network.predicts_from_maps:
    raise InputError(
        f'{name} needs the attribution maps of an image to classify it, which '
        'no single forward pass gives. Choose another method with '
        '--method=NAME.'
    )
  summary = workdirs.read_summary(home / stage)

  @jax.jit
  def call(images):
    prediction = network.predict(variables, images)
    return jax.nn.softmax(prediction.logits), prediction.attribution

  return Model(
      method=name,
      class_names=tuple(summary['data']['class_names']),
      image_shape=tuple(summary['data']['image_shape']),
      map_r2=summary.get('map_r2'),
      about_map=methods.about_map(name, workdirs.read_config(home / stage)),
      call=call,
  )
