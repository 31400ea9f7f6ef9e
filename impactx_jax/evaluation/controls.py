"""Maps that say nothing of the image they are laid over: what must be beaten.

A map explains an image only where it is better than the map of another image of
the same predicted class.
"""

from impactx_jax.data.columns import Columns
from impactx_jax.evaluation.explaining import Explain
import numpy as np

# The method's own map, of another image that it answers alike.
SWAPPED = 'swapped'


def of_training_maps(columns: Columns, num_classes: int) -> dict[str, Explain]:
  """Returns what makes the mean map, and the mean map of a class.

  Args:
    columns: Of the shards: `map` [N, H, W, C, K'], `split`, and `classes`
      [N, K'], of which the first is taken.
    num_classes: K.
  """
  rows = columns['split'] == 'train'
  maps, classes = columns['map'][rows][..., 0], columns['classes'][rows, 0]
  mean = maps.mean(axis=0)
  of_class = np.stack([
      maps[classes == k].mean(axis=0) if (classes == k).any() else mean
      for k in range(num_classes)
  ])
  return {
      'class_mean': constant(of_class),
      'mean': constant(np.broadcast_to(mean, of_class.shape)),
  }


def constant(of_class: np.ndarray) -> Explain:
  """Returns what gives each image the map of its class.

  Args:
    of_class: [K, H, W, C'].
  """

  def explain(variables, images, classes):
    del variables, images
    return of_class[classes]

  return explain
