"""Do maps point at the object? Where a data set has masks or boxes."""

from attribution.metrics import localisation
from attribution.metrics.intervals import Values
from impactx_jax import user_files
from impactx_jax.data import columns as column_lib
from impactx_jax.data import masks
from impactx_jax.data import sources
from impactx_jax.data.columns import Columns
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation.explaining import Explain
from impactx_jax.evaluation.explaining import Network
from ml_collections import ConfigDict
import numpy as np

# After the name of an explainer: its map of A, laid over the network.
OF_A = '_of_a'
HALF = 0.5  # The threshold that needs no other images.


def measure(
    config: ConfigDict,
    dataset: sources.Dataset,
    network: Network,
    columns: Columns,
    predicted: np.ndarray,
    maps: dict[str, np.ndarray],
    makers: dict[str, Explain],
) -> Values:
  """Measures where maps have their relevance.

  Args:
    config: The whole config.
    dataset: The data; thresholds are chosen on validation images.
    network: That is explained.
    columns: Of the test images.
    predicted: int [N], the classes that the maps are of.
    maps: By name, [N, H, W, C'].
    makers: By name, what makes them.

  Returns:
    `epg`, `iou` at the threshold that is best on validation images, and
    `iou_half` at half of a map's largest value, of the predicted class;
    `epg_true` and `iou_true` of a class that is in the image; and, of data with
    both, `object_in_box`, the share of the energy in the box that is on the
    object. NaN for an image without the class.
  """
  options, num_classes = config.evaluation, len(dataset.class_names)
  held_out = column_lib.sample(
      dataset.validation, options.num_images, config.seed
  )
  _, classes = explaining.answers(network, held_out, options.batch_size)
  images = column_lib.to_float(held_out['image'])
  truth = masks.masks_of(held_out, classes, num_classes)
  # A class of each image that is there, and its maps where that is another.
  there = network[0].task.explained(columns, config.seed)
  other = np.flatnonzero(there != predicted)
  inputs = column_lib.to_float(columns['image'])
  objects, objects_there = (
      masks.masks_of(columns, k, num_classes) for k in (predicted, there)
  )
  boxes = None
  if masks.has_masks(columns):
    boxes = masks.masks_of(
        {n: c for n, c in columns.items() if not masks.has_masks([n])},
        predicted, num_classes,
    )
  values: Values = {}

  def add(measure, name, found, objects):
    found = np.where(objects.any(axis=(1, 2)), found, np.nan)
    values.setdefault(measure, {})[name] = found

  for name, own in maps.items():
    # Another image's map is cut where the method's own is, and A's where the
    # network's is.
    maker = makers.get(
        name.removesuffix(OF_A), makers[user_files.stem(config.method.name)]
    )
    threshold = localisation.best_threshold(
        maker(network[1], images, classes), truth
    )
    add('epg', name, localisation.epg(own, objects), objects)
    add('iou', name, localisation.iou(own, objects, threshold), objects)
    add('iou_half', name, localisation.iou(own, objects, HALF), objects)
    if boxes is not None:
      inside = own * boxes[..., None]
      add('object_in_box', name, localisation.epg(inside, objects), objects)
    if name in makers:
      of_true = own.copy()
      if len(other):
        of_true[other] = maker(network[1], inputs[other], there[other])
      epg = localisation.epg(of_true, objects_there)
      iou = localisation.iou(of_true, objects_there, threshold)
      add('epg_true', name, epg, objects_there)
      add('iou_true', name, iou, objects_there)
  return values


def mask_share(
    columns: Columns, classes: np.ndarray, num_classes: int
) -> float:
  """Returns the share of an image that its mask has: the EPG of chance."""
  found = masks.masks_of(columns, classes, num_classes)
  return float(found[found.any(axis=(1, 2))].mean()) if found.any() else 0.0
