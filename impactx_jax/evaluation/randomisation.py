"""Networks with shuffled parameters: does a map follow what it explains?

After Adebayo et al., 2018. Shuffled as a whole, a network loses its map
whatever the map hangs on; shuffled a part at a time, it shows on what.
"""

from collections.abc import Sequence
from typing import Any

from attribution.metrics import agreement
from attribution.metrics import randomisation as shuffling
from attribution.metrics.intervals import Values
from impactx_jax import rng
from impactx_jax.data import columns as column_lib
from impactx_jax.data.columns import Columns
from impactx_jax.evaluation.explaining import Explain
from impactx_jax.evaluation.explaining import Network
from impactx_jax.training import evaluator
from ml_collections import ConfigDict
import numpy as np

WHOLE = 'randomisation'  # The measure; of a part, with its name after it.


def measure(
    config: ConfigDict,
    network: Network,
    columns: Columns,
    classes: np.ndarray,
    maps: dict[str, np.ndarray],
    makers: dict[str, Explain],
) -> tuple[Values, dict[str, float]]:
  """Shuffles a network, and each of its parts alone, and explains it again.

  Args:
    config: The whole config.
    network: That was explained.
    columns: Of the images, with the truth.
    classes: int [N], which were explained.
    maps: Of these images, by name.
    makers: That made them.

  Returns:
    The rank correlation of each map with the one before, of the first
    `evaluation.close_images` images, by measure and name; and the accuracy that
    is left on all of them, by measure.
  """
  method, variables = network
  options, task = config.evaluation, method.task
  images = column_lib.to_float(columns['image'][:options.close_images])
  classes = classes[:len(images)]
  likeness: Values = {}
  accuracies = {}
  for part, places in ({'': ((),)} | dict(method.parts)).items():
    name = f'{WHOLE} of {part}' if part else WHOLE
    scrambled = randomised(variables, config.seed, places)
    logits = evaluator.predict(
        method, scrambled, columns, options.batch_size, attribution=False
    ).logits
    right = task.right(task.answer(logits), columns[task.labels])
    accuracies[name] = float(np.mean(right))
    likeness[name] = {
        other: agreement.rank_correlation(
            maps[other][:len(images)], make(scrambled, images, classes)
        )
        for other, make in makers.items()
    }
  return likeness, accuracies


def randomised(
    variables: dict[str, Any],
    seed: int,
    places: Sequence[tuple[str, ...]] = ((),),
) -> dict[str, Any]:
  """Returns a network's variables with parameters shuffled, M's too.

  Within each array, so that their scale stays what training made it; the
  statistics of normalisations stay.

  Args:
    variables: {'params', 'collections'}.
    seed: Of the run.
    places: Where in the tree; all of it by default.
  """

  def chosen(keys):
    return 'params' in keys and any(
        keys[:len(place)] == place for place in places
    )

  return shuffling.shuffled(
      variables, rng.numpy_stream(seed, 'randomised'), chosen
  )
