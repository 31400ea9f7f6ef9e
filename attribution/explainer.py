"""One call for any JAX model: a scoring function in, maps out."""

from collections.abc import Callable
import dataclasses
from typing import Any

from attribution import explainers
from attribution import frameworks
from attribution import model_fn
from attribution.errors import check_at_least
from attribution.errors import InputError
from attribution.explainers import Baselines
from attribution.explainers import batched
from attribution.explainers import Layers
from attribution.explainers import regions as region_lib
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
    channels_first: Whether images, and maps, are [N, C, H, W].
    explainer: 'partition' (shap's best-first recursion), 'partition_grid'
      (every cell of a grid exactly, no queue), 'shap_partition' (the shap
      library itself, one image at a time); of the user's regions or the cells
      of a grid, 'kernel_shap', 'permutation_shap' (Shapley values) and
      'occlusion'; 'rise'; 'integrated_gradients', 'expected_gradients',
      'input_x_gradient', 'smooth_grad', 'grad_cam', 'lrp_epsilon',
      'lrp_alpha1_beta0', 'b_cos' (of B-cos networks alone); or, as controls
      that know nothing of the model, 'random', 'edges' and 'disc'.
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
    num_regions: The largest number of regions an image has, where they are
      given; None for that of each call, which compiles anew for another one,
      and on which the map of an image that has fewer depends.
    integration_steps: Gradients an image for 'integrated_gradients',
      'expected_gradients' and 'smooth_grad'.
    baselines: float32 [M, H, W, C], such as a hundred training images: where
      'expected_gradients' begin. None for the masker's.
    noise: Standard deviation of the noise of 'smooth_grad', in the units of
      the pixels.
    epsilon: What weak sums are kept from in 'lrp_epsilon' and
      'lrp_alpha1_beta0'.
    layer: For 'grad_cam', the convolution whose channels it weighs, most
      often the last: the path of a Flax Linen module that `score_fn` calls,
      such as 'Conv_1' or 'block_4/conv'.
    layers: The same for any model: cut after that convolution; both functions
      take the variables first if `score_fn` does. For 'b_cos', the network in
      its explanation mode, cut after the encoding of its input.
    seed: Of what is drawn; the same draws for every image.

  Raises:
    InputError: a ValueError, for options that do not fit.
  """

  score_fn: Callable[..., jax.Array]
  _: dataclasses.KW_ONLY
  variables: Any = None
  channels_first: bool = False
  explainer: str = 'partition'
  masker: str = 'blur'
  blur_kernel: int | None = None
  mask_value: float | np.ndarray = 0.0
  max_evals: int = 2000
  batch_size: int = 10
  images_per_step: int | None = None
  grid: int = 8
  num_regions: int | None = None
  integration_steps: int = 32
  baselines: np.ndarray | None = None
  noise: float = 0.1
  epsilon: float = 1e-6
  layer: str = ''
  layers: Layers | None = None
  seed: int = 0
  _score: model_fn.ScoreOfAny = dataclasses.field(init=False, repr=False)
  _starts: Baselines | None = dataclasses.field(init=False, repr=False)

  def __post_init__(self):
    """Checks the options."""
    frameworks.check(self.score_fn)
    object.__setattr__(self, '_score', self._wrapped(self.score_fn))
    object.__setattr__(self, '_starts', self._checked_baselines())
    check_at_least('max_evals', self.max_evals, 2)
    if self.images_per_step is not None:
      check_at_least('images_per_step', self.images_per_step, 1)
    if self.num_regions is not None:
      check_at_least('num_regions', self.num_regions, 1)
      self.check_takes_regions()
    try:
      self._explain(self.num_regions or 0)
    except InputError as error:
      # Of regions that come later, the budget may be enough.
      if error.argument != 'max_evals' or not self.takes_regions:
        raise

  @property
  def hides(self) -> Masker:
    """What stands in for hidden pixels."""
    return Masker(self.masker, self.blur_kernel or 0, self.mask_value)

  @property
  def evaluations(self) -> int:
    """Of the model, for one image; a gradient counts as one."""
    return explainers.evaluations(
        self.explainer, max_evals=self.max_evals, grid=self.grid,
        integration_steps=self.integration_steps,
        num_regions=self.num_regions or 0,
    )

  def __call__(
      self,
      images: np.ndarray,
      labels: np.ndarray,
      regions: np.ndarray | None = None,
  ) -> np.ndarray:
    """Explains images.

    Args:
      images: float32 [N, H, W, C], in the range that the model takes; [0, 1]
        for the inpainting maskers.
      labels: int [N], the class to explain for each image, or [N, K'] for
        several at once, as shap's `outputs` does.
      regions: int [H, W] for all images or [N, H, W]: the region that each
        pixel is of, 0 to one less than there are. 'partition' gives Owen
        values by a balanced tree of neighbours, and Shapley values exactly
        where there are 12 or less and `max_evals` allows all sets of them.

    Returns:
      Maps float32 [N, H, W, C], or [N, H, W, C, K'] for labels [N, K']. Those
      of the three partition explainers, and of the two of Shapley values, sum
      to score(image) - score(image with every pixel hidden).

    Raises:
      InputError: a ValueError, for arguments that do not fit.
    """
    images = np.asarray(images)
    turned = self.channels_first and images.ndim == 4
    if turned:
      images = np.moveaxis(images, 1, 3)
    maps = self.of_channels_last(images, labels, regions)
    return np.moveaxis(maps, 3, 1) if turned else maps

  def of_channels_last(
      self,
      images: np.ndarray,
      labels: np.ndarray,
      regions: np.ndarray | None = None,
  ) -> np.ndarray:
    """The same call, of images and maps [N, H, W, C] in any case."""
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
    given, count = (), self.num_regions or 0
    if regions is not None:
      self.check_takes_regions()
      places = region_lib.checked(regions, images, self.num_regions)
      given, count = (places,), count or int(places.max(initial=0)) + 1
    elif self.num_regions is not None:
      raise InputError(
          f'The explainer was made for {self.num_regions} regions: give them '
          'with the images and labels, as regions=.'
      )
    explain = self._explain(count)
    if len(images):
      self._check_score(images)
    maps = explain(self.variables, images, labels, *given)
    finite = np.isfinite(maps).all(axis=tuple(range(1, maps.ndim)))
    if not finite.all():
      raise InputError(
          f'The map of image {np.argmin(finite)} is not finite, for '
          + ('the scoring function gives NaN or infinity where a part of the '
             'image is hidden' if 'masker' in explainers.options_of(
                 self.explainer
             ) else 'the gradient of the scoring function is not')
          + ' (a logarithm of 0, a division by a standard deviation of 0?). '
          'Add a small number there, or take another masker or explainer.'
      )
    return maps

  def _wrapped(self, fn: Callable[..., jax.Array]) -> model_fn.ScoreOfAny:
    return model_fn.ScoreOfAny(
        fn, self.variables is not None, self.channels_first
    )

  def _explain(self, num_regions: int) -> Explain:
    """Returns what explains; the same one for the same options."""
    options = {'num_regions': num_regions} if num_regions else {}
    return explainers.create(
        self.explainer,
        self._score,
        masker=self.hides,
        max_evals=self.max_evals,
        batch_size=self.batch_size,
        images_per_step=self.images_per_step,
        grid=self.grid,
        integration_steps=self.integration_steps,
        baselines=self._starts,
        noise=self.noise,
        epsilon=self.epsilon,
        layer=self.layer,
        layers=self.layers and Layers(*map(self._wrapped, self.layers)),
        seed=self.seed,
        **options,
    )

  def _checked_baselines(self) -> Baselines | None:
    """Returns the baselines as explainers take them."""
    if self.baselines is None:
      return None
    starts = np.asarray(self.baselines)
    if starts.dtype.kind != 'f' or not np.isfinite(starts).all():
      raise InputError(
          'Baselines must be finite floats, in the range of the images; these '
          f'are {starts.dtype}.', 'baselines',
      )
    if starts.ndim != 4 or not len(starts):
      raise InputError(
          f'The baselines are of shape {starts.shape}: give one image or more, '
          f'{self._layout("M")}.', 'baselines',
      )
    if self.channels_first:
      starts = np.moveaxis(starts, 1, 3)
    return Baselines(starts.shape, starts.astype(np.float32).tobytes())

  def _layout(self, count: str) -> str:
    return f'[{count}, C, H, W]' if self.channels_first else (
        f'[{count}, H, W, C]'
    )

  @property
  def takes_regions(self) -> bool:
    """Whether it explains regions of the user's."""
    return 'num_regions' in explainers.options_of(self.explainer)

  def check_takes_regions(self) -> None:
    """Raises InputError for an explainer that knows no regions."""
    if not self.takes_regions:
      allowed = sorted(
          name for name in explainers.EXPLAINERS
          if 'num_regions' in explainers.options_of(name)
      )
      raise InputError(
          f'The explainer {self.explainer!r} takes no regions; '
          f'{", ".join(allowed)} do.', 'explainer', 'NAME',
      )

  def _check_score(self, images: np.ndarray) -> None:
    """Raises InputError for a score that is not one of the first image."""
    model_fn.inspect(self._score, self.variables, images.shape[1:])
    first = model_fn.numpy_callable(self._score, 1)(self.variables, images[:1])
    if not np.isfinite(first).all():
      raise InputError(
          'The scoring function gives NaN or infinity for the first image, '
          'so there is nothing to explain. Is the model trained?'
      )


def explain(
    score_fn: Callable[..., jax.Array],
    images: np.ndarray,
    labels: np.ndarray,
    regions: np.ndarray | None = None,
    **options: Any,
) -> np.ndarray:
  """Explains images once: makes an `Explainer`, and calls it.

  A second call with the same function and options compiles nothing.

  Args:
    score_fn: Any jittable function, images float32 [B, H, W, C] -> scores
      [B, K], of any B; with `variables`, (variables, images) -> scores.
    images: float32 [N, H, W, C], in the range that the model takes.
    labels: int [N], the class to explain for each image, or [N, K'] for
      several at once.
    regions: int [H, W] or [N, H, W], of each pixel; see `Explainer`.
    **options: Of `Explainer`: `variables`, `explainer`, `masker`,
      `max_evals` and others.

  Returns:
    Maps float32 [N, H, W, C], or [N, H, W, C, K'] for labels [N, K'].

  Raises:
    InputError: a ValueError, for arguments that do not fit.
  """
  return Explainer(score_fn, **options)(images, labels, regions)
