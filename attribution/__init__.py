"""The attribution service: from a scoring function to maps in shards.

`explain` is for any JAX model; the rest is what a training run needs.
"""

from collections.abc import Callable

from attribution import explainers
from attribution.errors import InputError
import jax
import numpy as np


def explain(
    score_fn: Callable[[jax.Array], jax.Array],
    images: np.ndarray,
    labels: np.ndarray,
    *,
    explainer: str = 'partition',
    masker: str = 'blur',
    blur_kernel: int | None = None,
    mask_value: float | np.ndarray = 0.0,
    max_evals: int = 2000,
    batch_size: int = 10,
    images_per_step: int | None = None,
    grid: int = 8,
) -> np.ndarray:
  """Explains a JAX model with the values of `shap.PartitionExplainer`.

  Each call compiles anew; to explain more images with the same model later,
  keep what `attribution.explainers.create` returns.

  Args:
    score_fn: Any jittable function, images float32 [B, H, W, C] -> scores
      [B, K], of any B. The score is explained as it comes: no link function,
      no softmax.
    images: float32 [N, H, W, C], in the range that the model takes; [0, 1]
      for the inpainting maskers.
    labels: int [N], the class to explain for each image, or [N, K'] for
      several at once, as shap's `outputs` does.
    explainer: 'partition' (shap's best-first recursion), 'partition_grid'
      (every cell of a grid exactly, no queue), or 'shap_partition' (the shap
      library itself, one image at a time).
    masker: What stands in for hidden pixels: 'blur', 'mean' or 'constant';
      'shap_partition' also takes 'inpaint_telea' and 'inpaint_ns'.
    blur_kernel: Side of the blur in pixels; None is half the shorter side.
    mask_value: Colour of 'mean' and 'constant': one number or one a channel.
    max_evals: Model evaluations an image, the two ends included.
    batch_size: Evaluations of an image between two looks at the queue of what
      to expand next. As in shap it is a part of the result; 2 to 50 agree
      closely, and larger ones are faster on an accelerator.
    images_per_step: Images explained in lockstep on each device; None chooses
      by memory.
    grid: Cells a side for 'partition_grid', a power of two.

  Returns:
    Maps float32 [N, H, W, C], or [N, H, W, C, K'] for labels [N, K']. Each
    sums to score(image) - score(image with every pixel hidden).

  Raises:
    InputError: a ValueError, for arguments that do not fit.
  """
  images = np.asarray(images)
  if images.dtype.kind != 'f' or not np.isfinite(images).all():
    raise InputError(
        'Images must be finite floats, in the range that the model takes; '
        f'these are {images.dtype}'
        + (' with NaN or infinity.' if images.dtype.kind == 'f' else '.')
    )
  if not np.isfinite(jax.jit(score_fn)(images[:1])).all():
    raise InputError(
        'The scoring function gives NaN or infinity for the first image, so '
        'there is nothing to explain. Is the model trained?'
    )
  return explainers.create(
      explainer,
      score_fn,
      masker=masker,
      blur_kernel=blur_kernel,
      mask_value=mask_value,
      max_evals=max_evals,
      batch_size=batch_size,
      images_per_step=images_per_step,
      grid=grid,
  )(images, labels)
