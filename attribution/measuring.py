"""Are the maps of a model explanations? All measures in one call.

The measures themselves are pure functions in `attribution.metrics`.
"""

from collections.abc import Callable
from collections.abc import Mapping
import dataclasses
from typing import Any

from attribution import model_fn
from attribution.errors import check_at_least
from attribution.errors import InputError
from attribution.explainer import Explainer
from attribution.explainers import batched
from attribution.explainers import options_of
from attribution.learning import Learned
from attribution.maskers import Masker
from attribution.measured import MEASURES
from attribution.measured import MeasuredMaps
from attribution.metrics import agreement
from attribution.metrics import faithfulness
from attribution.metrics import localisation
from attribution.metrics import randomisation
from attribution.metrics import sensitivity
from attribution.metrics.checks import check_fit
from attribution.metrics.intervals import Values
import jax
import numpy as np
from tqdm.auto import tqdm


def measure(
    score_fn: Callable[..., jax.Array],
    images: np.ndarray,
    maps: np.ndarray | Mapping[str, np.ndarray] | None = None,
    labels: np.ndarray | None = None,
    *,
    variables: Any = None,
    channels_first: bool = False,
    regions: np.ndarray | None = None,
    masks: np.ndarray | None = None,
    explainers: Explainer | Learned | Mapping[str, Any] | None = None,
    masker: str | Masker = 'blur',
    region: int | None = None,
    draws: int = 10,
    noise: float = 0.02,
    noise_draws: int = 4,
    batch_size: int = 256,
    seed: int = 0,
) -> MeasuredMaps:
  """Measures maps of any JAX model, those of several methods side by side.

  Always: the areas under the curves of the explained score as regions of the
  image become noise, most (`morf_area`, `morf_aopc`) or least relevant first
  (`lerf_area`), or become the hidden image's (`deletion_area`), or as those of
  the hidden image become the image's (`insertion_area`); `swap_difference`, how
  much greater the insertion area is than by the same method's map of another
  image of the same class; and `completeness_gap`, |sum of the map - (score(
  image) - score(hidden))|, which says something of those maps that should sum
  to it. All maps meet the same noise.

  With `masks`: `epg` and `iou`, the share of positive relevance inside the
  mask, and the overlap of the thresholded map with it. The threshold, a share
  of the map's largest value, is chosen for each method on other images: for
  those at even places it is the best of those at odd ones, and the other way
  round. NaN where the mask is empty.

  With `explainers`: `stability` and `max_sensitivity`, the mean rank
  correlation with the maps of the images with a little noise, and the largest
  change relative to the map. With `variables` as well: `randomisation`, the
  rank correlation with the map of the model with its variables shuffled within
  each array (of Flax' parameters, where there are such). They make
  `noise_draws` + 1 maps of every image, and cost as much.

  Args:
    score_fn: Any jittable function, images float32 [B, H, W, C] -> scores
      [B, K], of any B; with `variables`, (variables, images) -> scores. It is
      the score that is explained.
    images: float32 [N, H, W, C], in the range that the model takes.
    maps: float [N, H, W, C']; or those of several methods by name. They are
      summed over channels.
    labels: int [N], the explained classes; None for those of the highest
      scores.
    variables: The weights, any tree of arrays; None for a function of the
      images alone.
    channels_first: Whether images and maps are [N, C, H, W], here and for the
      function and the explainers.
    regions: int [H, W] or [N, H, W], for those explainers that explain regions.
    masks: Of the objects, bool or 0 and 1, [N, H, W].
    explainers: What made the maps, by the names of these; where one has no map
      among `maps`, it is made.
    masker: What stands in for hidden regions: 'blur', 'mean' and others, or a
      `maskers.Masker` with its settings.
    region: Side of the square regions, in pixels; None for an eighth of the
      shorter side.
    draws: Draws of the noise in place of regions. It is uniform over [0, 1), or
      over the range of the images where that is wider.
    noise: The largest change of a pixel for `stability`, as a share of that
      range.
    noise_draws: Of that noise.
    batch_size: Images in one call of the model, at most.
    seed: Of all random numbers.

  Raises:
    InputError: a ValueError, for arguments that do not fit.
  """
  images, found = np.asarray(images), _by_name(maps)
  makers = _by_name(explainers)
  _check_images(images, channels_first)
  images = images.astype(np.float32)
  if channels_first:
    images = np.moveaxis(images, 1, 3)
    found = {name: _moved(x) for name, x in found.items()}
  shorter = min(images.shape[1:3])
  region = max(1, shorter // 8) if region is None else region
  _check_options(makers, variables, shorter, region, draws, noise, noise_draws,
                 batch_size)
  for name, values in found.items():
    _check_map(images, name, values)
  masks = None if masks is None else _as_masks(masks, images)
  masker = Masker(masker) if isinstance(masker, str) else masker
  _check_makers(makers, masker, channels_first, regions)
  score = model_fn.ScoreOfAny(score_fn, variables is not None, channels_first)
  model_fn.inspect(score, variables, images.shape[1:])
  call = model_fn.numpy_callable(score, min(batch_size, len(images)))
  hidden = np.asarray(masker.background(images))
  full, base = call(variables, images), call(variables, hidden)
  if not (np.isfinite(full).all() and np.isfinite(base).all()):
    raise InputError(
        'The scoring function gives NaN or infinity for some images, or for '
        'some with everything hidden: leave these images out, or change it.'
    )
  labels = full.argmax(axis=-1) if labels is None else np.asarray(labels)
  if labels.ndim != 1:
    raise InputError(
        f'Labels of shape {labels.shape}: give one class an image, [N].'
    )
  batched.check_inputs(images, labels)
  batched.check_labels(labels, score, variables, images.shape[1:])

  for name, explainer in makers.items():
    if name not in found:
      found[name] = _calls(explainer, regions)(images, labels)
  if not found:
    raise InputError(
        'There are no maps: give [N, H, W, C], or some by name, or explainers.'
    )
  low, high = min(0.0, float(images.min())), max(1.0, float(images.max()))
  _, values = faithfulness.perturb(
      score, variables, images, found, labels, hidden=hidden,
      key=jax.random.key(seed), region=region, draws=draws,
      batch_size=batch_size, low=low, high=high,
  )
  change = (full - base)[np.arange(len(images)), labels]
  values['completeness_gap'] = {
      name: faithfulness.completeness_gap(x, change)
      for name, x in found.items()
  }
  if masks is not None:
    values |= _localise(found, masks)
  for name, explainer in tqdm(
      makers.items(), desc='made anew', unit='explainer', disable=not makers
  ):
    anew = sensitivity.sensitivity(
        _calls(explainer, regions), images, found[name], labels, low=low,
        high=high, noise=noise, draws=noise_draws, seed=seed,
    )
    if variables is not None:
      others = _calls(_shuffled(explainer, seed), regions)(images, labels)
      anew['randomisation'] = agreement.rank_correlation(found[name], others)
    for kind, x in anew.items():
      values.setdefault(kind, {})[name] = x
  return MeasuredMaps(
      values={kind: values[kind] for kind in MEASURES if kind in values},
      labels=labels, names=tuple(found), region=region, seed=seed,
  )


def _calls(
    explainer: Explainer | Learned, regions: np.ndarray | None
) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
  """Returns images [N, H, W, C], labels -> maps [N, H, W, C']."""
  if isinstance(explainer, Learned):
    return explainer
  given = (regions,) if explainer.takes_regions else ()
  return lambda images, labels: explainer.of_channels_last(
      images, labels, *given
  )


def _moved(maps: np.ndarray) -> np.ndarray:
  maps = np.asarray(maps)
  return np.moveaxis(maps, 1, 3) if maps.ndim == 4 else maps


def _shuffled(explainer: Explainer | Learned, seed: int) -> Any:
  """Returns the same explainer of the model with its variables shuffled."""
  generator, variables = np.random.default_rng([seed, 1]), explainer.variables
  if isinstance(explainer, Learned):  # What it has learned stays.
    model = randomisation.shuffled(variables['model'], generator)
    return dataclasses.replace(
        explainer, variables={**variables, 'model': model}
    )
  return dataclasses.replace(
      explainer, variables=randomisation.shuffled(variables, generator)
  )


def _localise(maps: Mapping[str, np.ndarray], masks: np.ndarray) -> Values:
  rows = masks.any(axis=(1, 2))
  found: Values = {'epg': {}, 'iou': {}}
  for name, values in maps.items():
    for kind, of_maps in (
        ('epg', localisation.epg), ('iou', localisation.held_out_iou)
    ):
      found[kind][name] = np.full(len(masks), np.nan)
      found[kind][name][rows] = of_maps(values[rows], masks[rows])
  return found


def _by_name(given: Any) -> dict[str, Any]:
  if given is None:
    return {}
  return dict(given) if isinstance(given, Mapping) else {'maps': given}


def _check_images(images, channels_first: bool) -> None:
  if images.ndim != 4 or not len(images):
    layout = '[N, C, H, W]' if channels_first else '[N, H, W, C]'
    raise InputError(f'Images of shape {images.shape}: give some, {layout}.')
  if images.dtype.kind != 'f' or not np.isfinite(images).all():
    raise InputError(
        'Images must be finite floats, in the range that the model takes; '
        f'these are {images.dtype}. Of uint8, give images.astype(np.float32) / '
        '255, if that is the range.'
    )


def _check_options(
    makers, variables, shorter, region, draws, noise, noise_draws, batch_size
) -> None:
  for name, value in (
      ('region', region), ('draws', draws), ('noise_draws', noise_draws),
      ('batch_size', batch_size),
  ):
    check_at_least(name, value, 1)
  if region > shorter:
    raise InputError(
        f'Regions of {region} pixels are larger than the image, whose shorter '
        f'side has {shorter}.', 'region', 'N',
    )
  if not 0 < noise <= 1:
    raise InputError(
        f'noise is {noise}; it must be above 0 and at most 1, a share of the '
        'range of the images.', 'noise', 'X',
    )
  for name, explainer in makers.items():
    if not isinstance(explainer, Explainer | Learned):
      raise InputError(
          f'The explainer {name!r} is of the type {type(explainer).__name__}; '
          'give an attribution.Explainer, or what attribution.learn returns.'
      )
    if variables is not None and explainer.variables is None:
      raise InputError(
          f'The explainer {name!r} has no variables that could be shuffled, as '
          'randomisation needs: give attribution.Explainer(score_fn, variables='
          'variables), or measure without variables.'
      )


def _check_makers(makers, masker: Masker, channels_first, regions) -> None:
  """Raises InputError for explainers that look at other images than this."""
  own = {n: e for n, e in makers.items() if isinstance(e, Explainer)}
  if regions is not None and not any(e.takes_regions for e in own.values()):
    raise InputError(
        'The regions are for explainers of regions, and none is given: add '
        "attribution.Explainer(score_fn, explainer='kernel_shap', …), or leave "
        'them out; the regions that become noise are squares, of the side '
        'region=.', 'regions',
    )
  for name, explainer in own.items():
    if explainer.channels_first != channels_first:
      raise InputError(
          f'The explainer {name!r} has channels_first='
          f'{explainer.channels_first}, and what is measured channels_first='
          f'{channels_first}: give the same to both.', 'channels_first',
      )
    takes_masker = 'masker' in options_of(explainer.explainer)
    if takes_masker and explainer.hides != masker:
      raise InputError(
          f'The explainer {name!r} hides by {explainer.hides}, and what is '
          f'measured by {masker}: its maps would not sum to the change that is '
          f'measured. Give masker={explainer.hides}, or another explainer.'
      )


def _check_map(images, name, values) -> None:
  called = 'maps' if name == 'maps' else f'maps {name}'
  check_fit(images=images, **{called: values})
  if not np.isfinite(values).all():
    raise InputError(
        f'There is NaN or infinity in the {called}: leave these images out.'
    )


def _as_masks(masks, images) -> np.ndarray:
  masks = np.asarray(masks)
  if masks.ndim == 4 and masks.shape[3] == 1:
    masks = masks[..., 0]
  check_fit(images=images, masks=masks)
  if not np.isin(masks, (0, 1)).all() or not masks.any():
    raise InputError(
        'Masks must be bool, or 0 and 1, and not all empty: 1 on the object; '
        f'these are {masks.dtype} from {masks.min()} to {masks.max()}.'
    )
  return masks.astype(bool)
