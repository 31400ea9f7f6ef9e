"""What a code knows of the maps, whatever a decoder makes of it."""

import numpy as np

CELLS = 8  # A side, of what is predicted.
IMAGES = 2000  # At most.
FOLDS = 5


def r2(codes: np.ndarray, maps: np.ndarray) -> float | None:
  """Returns how much of the maps a linear probe of the codes predicts.

  A ridge regression from the code to the map's means over a grid of 8x8 cells,
  its penalty chosen within the images that it is fitted on, judged on those
  that it is not (5 folds). So it can be compared between networks with
  decoders, with others, and with none that has learned.

  Args:
    codes: float [N, U], of which the first 2,000 are used.
    maps: float [N, H, W, C], the maps of the same images.

  Returns:
    The share of the maps' variance about their mean map, at most 1; None with
    fewer than 50 images, or where the maps are all the same.
  """
  from sklearn import linear_model  # pylint: disable=g-import-not-at-top
  from sklearn import model_selection  # pylint: disable=g-import-not-at-top

  codes, maps = codes[:IMAGES], maps[:IMAGES]
  if len(maps) < 50:
    return None
  for axis in (1, 2):
    starts = np.arange(CELLS) * maps.shape[axis] // CELLS
    sizes = np.diff([*starts, maps.shape[axis]])
    shape = [-1 if i == axis else 1 for i in range(4)]
    maps = np.add.reduceat(maps, starts, axis) / sizes.reshape(shape)
  wanted = maps.reshape(len(maps), -1).astype(np.float64)
  spread = ((wanted - wanted.mean(axis=0)) ** 2).sum()
  if not spread:
    return None
  found = model_selection.cross_val_predict(
      linear_model.RidgeCV(np.logspace(-3, 4, 8)), codes.astype(np.float64),
      wanted, cv=FOLDS,
  )
  return 1 - float(((wanted - found) ** 2).sum() / spread)
