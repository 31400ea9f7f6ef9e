"""shap's own Partition explainer, as the reference (IMPACTX, section 4.2).

Three traps of shap 0.51 are avoided here, each with a test:

* Its blur masker caches by `id(image)` of a temporary array and can mask an
  image with another image's blur. We blur each image ourselves and hand the
  result over as the masker's constant.
* It caches the base value when the background is constant. Ours changes with
  the image, so the masker is told that it does.
* Its inpainting casts to uint8, which destroys an image in [0, 1]. The
  explainer sees 0..255 and the model gets [0, 1] back.
"""

import zlib

from attribution import maskers
from attribution.errors import check_at_least
from attribution.explainers import batched
from attribution.explainers.batched import Explain
from attribution.maskers import Masker
from attribution.model_fn import numpy_callable
from attribution.model_fn import ScoreFn
from attribution.model_fn import Variables
import jax
import numpy as np


def shap_partition(
    score_fn: ScoreFn,
    *,
    masker: Masker = maskers.BLUR,
    max_evals: int = 2000,
    batch_size: int = 10,
    seed: int = 0,
) -> Explain:
  """Builds an explainer that drives `shap.PartitionExplainer`.

  Args:
    score_fn: Jittable, (variables, images float32 [B, H, W, C]) -> scores
      [B, K].
    masker: Any.
    max_evals: Model evaluations an image, the two ends included; shap takes
      them in pairs, so an odd number acts as the next even one.
    batch_size: Evaluations between two looks at the priority queue. It is
      part of the result, because it decides what is expanded first.
    seed: Breaks exact ties in the queue. shap draws them from NumPy's global
      generator; we seed it from (seed, image) and restore it afterwards.

  Returns:
    `explain(variables, images, labels) -> maps`, see
    `attribution.explainers`.

  Raises:
    InputError: for settings that cannot be met.
  """
  check_at_least('max_evals', max_evals, 2)
  check_at_least('batch_size', batch_size, 1)
  scale = 255.0 if masker.inpaints else 1.0
  score = numpy_callable(score_fn, batch_size)
  explainers = {}  # One for each image shape: shap builds its tree once.
  explained = []  # The variables, while `explain` runs.

  def explainer_for(shape):
    if shape not in explainers:
      import shap  # pylint: disable=g-import-not-at-top

      value = masker.name if masker.inpaints else np.zeros(shape, np.float32)
      shap_masker = shap.maskers.Image(value, shape)
      shap_masker.fixed_background = False
      explainers[shape] = shap.PartitionExplainer(
          lambda images: score(explained[-1], images / scale), shap_masker
      )
    return explainers[shape]

  def explain(
      variables: Variables, images: np.ndarray, labels: np.ndarray
  ) -> np.ndarray:
    images = np.asarray(images, np.float32)
    labels = np.asarray(labels)
    batched.check_inputs(images, labels)
    if labels.size:
      batched.check_labels(labels, score_fn, variables, images.shape[1:])
    classes = labels.reshape(len(labels), *(labels.shape[1:] or (1,)))
    hidden = np.asarray(masker.background(images))
    explainer = explainer_for(images.shape[1:])
    maps = np.empty((*images.shape, classes.shape[1]), np.float32)
    random_state = np.random.get_state()
    explained.append(jax.device_put(variables))  # Once, not for every call.
    try:
      for i, image in enumerate(images):
        if masker.inpaints:  # Rounded, for the cast to uint8 truncates.
          image = np.rint(image * scale)
        else:
          explainer.masker.mask_value = hidden[i].ravel()
        np.random.seed(zlib.crc32(image.tobytes(), seed & 0xFFFFFFFF))
        maps[i] = explainer(
            image[None],
            max_evals=max_evals,
            batch_size=batch_size,
            outputs=classes[i],
            silent=True,
        ).values[0]
    finally:
      explained.pop()
      np.random.set_state(random_state)
    return maps[..., 0] if labels.ndim == 1 else maps

  return explain
