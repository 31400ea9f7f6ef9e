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
    codes: float [N, U], of which 2,000 are drawn.
    maps: float [N, H, W, C], the maps of the same images.

  Returns:
    The share of the maps' variance about their mean map, at most 1; None with
    fewer than 50 images, or where the maps are all the same.
  """
  # pylint: disable=g-import-not-at-top
  from sklearn import linear_model
  from sklearn import model_selection
  from sklearn import pipeline
  from sklearn import preprocessing

  rows = np.random.default_rng(0).permutation(len(maps))[:IMAGES]
  codes, maps = codes[rows], maps[rows]
  if len(maps) < 50:
    return None
  for axis in (1, 2):
    cells = min(CELLS, maps.shape[axis])
    starts = np.arange(cells) * maps.shape[axis] // cells
    sizes = np.diff([*starts, maps.shape[axis]])
    shape = [-1 if i == axis else 1 for i in range(4)]
    maps = np.add.reduceat(maps, starts, axis) / sizes.reshape(shape)
  wanted = maps.reshape(len(maps), -1).astype(np.float64)
  spread = ((wanted - wanted.mean(axis=0)) ** 2).sum()
  if not spread:
    return None
  ridge = pipeline.make_pipeline(  # Whatever the scale of the code.
      preprocessing.StandardScaler(),
      linear_model.RidgeCV(np.logspace(-1, 5, 7)),
  )
  found = model_selection.cross_val_predict(
      ridge, codes.astype(np.float64), wanted, cv=FOLDS
  )
  return 1 - float(((wanted - found) ** 2).sum() / spread)
