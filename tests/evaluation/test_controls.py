"""Maps that say nothing of their image."""

from impactx_jax.evaluation import controls
import numpy as np


def columns(classes, split):
  """The map of example i is i everywhere, and 100 + i for a second class."""
  numbers = np.arange(len(classes), dtype=np.float32)
  maps = np.stack([numbers, 100 + numbers], axis=-1)
  return {
      'map': np.broadcast_to(
          maps[:, None, None, None], (len(classes), 2, 2, 3, 2)
      ),
      'classes': np.stack([classes, np.zeros_like(classes)], axis=-1),
      'split': np.array(split),
  }


def test_means_are_of_the_training_maps_alone():
  found = controls.of_training_maps(
      columns(np.array([0, 0, 1, 1, 0]), ['train'] * 4 + ['validation']), 3
  )
  maps = {
      name: make(None, None, np.array([0, 1, 2, 0]))[:, 0, 0, 0].tolist()
      for name, make in found.items()
  }
  assert maps == {
      # Of the class without an example, the mean of all.
      'class_mean': [0.5, 2.5, 1.5, 0.5],
      'mean': [1.5] * 4,
  }
