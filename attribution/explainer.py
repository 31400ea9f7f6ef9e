"""One call for any JAX model: a scoring function in, maps out."""

from collections.abc import Callable
import dataclasses
from typing import Any

from attribution import explainers
from attribution import model_fn
from attribution.errors import InputError
from attribution.explainers import batched
from attribution.explainers import Layers
from attribution.explainers.batched import Explain
from attribution.maskers import Masker
import jax
import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class Explainer:
  """Explains a JAX model, by default with `shap.PartitionExplainer`'s values.

  What is compiled is kept for the function object, the options and the shapes:
  another explainer of the same, or `dataclasses.replace(self, variables=…)`,
  compiles nothing. It is kept for the 32 functions used last, and these are
  kept alive with it. As for `jax.jit`, the weights that a function or a model
  object holds are those of its first call: of a network that goes on learning,
  give the weights as `variables`.

  Attributes:
    score_fn: Any jittable function, images float32 [B, H, W, C] -> scores
      [B, K], of any B; with `variables`, (variables, images) -> scores. The
      score is explained as it comes: no link function, no softmax.
    variables: The weights, any tree of arrays; None for a function of the
      images alone.
    explainer: 'partition' (shap's best-first recursion), 'partition_grid'
      (every cell of a grid exactly, no queue), 'shap_partition' (the shap
      library itself, one image at a time); of the cells of a grid,
      'kernel_shap', 'permutation_shap' (Shapley values), 'occlusion' and
      'rise'; 'integrated_gradients', 'input_x_gradient', 'smooth_grad',
      'grad_cam'; or, as controls that know nothing of the model, 'random',
      'edges' and 'disc'.
    masker: What stands in for hidden pixels, and where integrated gradients
      begin: 'blur', 'mean' or 'constant'; 'shap_partition' also takes
      'inpaint_telea' and 'inpaint_ns'.
    blur_kernel: Side of the blur in pixels; None is half the shorter side.
    mask_value: Colour of 'mean' and 'constant': one number or one a channel.
    max_evals: Model evaluations an image, at most, of 'partition',
      'shap_partition' and what draws.
    batch_size: Evaluations of an image between two looks at the queue of what
      to expand next. As in shap it is a part of the result; 2 to 50 agree
      closely, and larger ones are faster on an accelerator.
    images_per_step: Images explained in lockstep on each device; None chooses
      by memory.
    grid: Cells a side; for 'partition_grid' a power of two.
    integration_steps: Gradients an image for 'integrated_gradients' and
      'smooth_grad'.
    noise: Standard deviation of the noise of 'smooth_grad', in the units of
      the pixels.
    layers: The model cut after its last convolution, for 'grad_cam'; both
      functions take the variables first if `score_fn` does.
    seed: Of what is drawn; the same draws for every image.

  Raises:
    InputError: a ValueError, for options that do not fit.
  """

  score_fn: Callable[..., jax.Array]
  _: dataclasses.KW_ONLY
  variables: Any = None
  explainer: str = 'partition'
  masker: str = 'blur'
  blur_kernel: int | None = None
  mask_value: float | np.ndarray = 0.0
  max_evals: int = 2000
  batch_size: int = 10
  images_per_step: int | None = None
  grid: int = 8
  integration_steps: int = 32
  noise: float = 0.1
  layers: Layers | None = None
  seed: int = 0
  _score: model_fn.ScoreOfAny = dataclasses.field(init=False, repr=False)
  _explain: Explain = dataclasses.field(init=False, repr=False)

  def __post_init__(self):
    """Builds what is called."""

    def of_variables(fn):
      return model_fn.ScoreOfAny(
          fn, takes_variables=self.variables is not None
      )

    score = of_variables(self.score_fn)
    object.__setattr__(self, '_score', score)
    object.__setattr__(self, '_explain', explainers.create(
        self.explainer,
        score,
        masker=Masker(self.masker, self.blur_kernel or 0, self.mask_value),
        max_evals=self.max_evals,
        batch_size=self.batch_size,
        images_per_step=self.images_per_step,
        grid=self.grid,
        integration_steps=self.integration_steps,
        noise=self.noise,
        layers=self.layers and Layers(*map(of_variables, self.layers)),
        seed=self.seed,
    ))

  @property
  def evaluations(self) -> int:
    """Of the model, for one image; a gradient counts as one."""
    return explainers.evaluations(
        self.explainer, max_evals=self.max_evals, grid=self.grid,
        integration_steps=self.integration_steps,
    )

  def __call__(self, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Explains images.

    Args:
      images: float32 [N, H, W, C], in the range that the model takes; [0, 1]
        for the inpainting maskers.
      labels: int [N], the class to explain for each image, or [N, K'] for
        several at once, as shap's `outputs` does.

    Returns:
      Maps float32 [N, H, W, C], or [N, H, W, C, K'] for labels [N, K']. Those
      of the three partition explainers, and of the two of Shapley values, sum
      to score(image) - score(image with every pixel hidden).

    Raises:
      InputError: a ValueError, for arguments that do not fit.
    """
    images, labels = np.asarray(images), np.asarray(labels)
    if images.dtype.kind != 'f' or not np.isfinite(images).all():
      raise InputError(
          'Images must be finite floats, in the range that the model takes; '
          f'these are {images.dtype}'
          + (' with NaN or infinity.' if images.dtype.kind == 'f' else '.')
          + (' Give images.astype(np.float32) / 255, if that is the range.'
             if images.dtype == np.uint8 else '')
      )
    batched.check_inputs(images, labels)
    if len(images):
      model_fn.inspect(self._score, self.variables, images.shape[1:])
      first = model_fn.numpy_callable(self._score, 1)(
          self.variables, images[:1]
      )
      if not np.isfinite(first).all():
        raise InputError(
            'The scoring function gives NaN or infinity for the first image, '
            'so there is nothing to explain. Is the model trained?'
        )
    return self._explain(self.variables, images, labels)


def explain(
    score_fn: Callable[..., jax.Array],
    images: np.ndarray,
    labels: np.ndarray,
    **options: Any,
) -> np.ndarray:
  """Explains images once: `Explainer(score_fn, **options)(images, labels)`.

  A second call with the same function and options compiles nothing.

  Args:
    score_fn: Any jittable function, images float32 [B, H, W, C] -> scores
      [B, K], of any B; with `variables`, (variables, images) -> scores.
    images: float32 [N, H, W, C], in the range that the model takes.
    labels: int [N], the class to explain for each image, or [N, K'] for
      several at once.
    **options: Of `Explainer`: `variables`, `explainer`, `masker`,
      `max_evals` and others.

  Returns:
    Maps float32 [N, H, W, C], or [N, H, W, C, K'] for labels [N, K'].

  Raises:
    InputError: a ValueError, for arguments that do not fit.
  """
  return Explainer(score_fn, **options)(images, labels)
