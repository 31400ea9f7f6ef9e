"""Are the maps explanations? A method's own map and explainers', side by side.

All explain the same model, the class that it predicts on the clean image, and
all meet the same noise (IMPACTX, section 5.2).
"""

import dataclasses
import functools
from typing import Any

from absl import logging
from attribution import explainers
from attribution import maskers
from attribution import model_fn
from impactx_jax import evaluators
from impactx_jax import rng
from impactx_jax import teachers
from impactx_jax.data import batches
from impactx_jax.data import sources
from impactx_jax.metrics import agreement
from impactx_jax.metrics import localisation
from impactx_jax.metrics import perturbation
from impactx_jax.metrics import statistics
import jax
import numpy as np
from tqdm.auto import tqdm

Network = teachers.Network


@dataclasses.dataclass(frozen=True)
class Measured:
  """What was measured, and what is drawn of it.

  Attributes:
    method: Name of the method, one of the maps.
    reference: Name of the explainer that it is compared with.
    images: float32 [N, H, W, C] in [0, 1].
    labels: int [N], the true classes.
    predicted: int [N], the explained classes.
    probabilities: float32 [N, K].
    maps: By name, [N, H, W, C'].
    curves: By name, the MoRF curve of each image, [N, R + 1].
    values: By measure and name, one value an image; not all measures have
      all maps, nor all images.
  """

  method: str
  reference: str
  images: np.ndarray
  labels: np.ndarray
  predicted: np.ndarray
  probabilities: np.ndarray
  maps: dict[str, np.ndarray]
  curves: dict[str, np.ndarray]
  values: dict[str, dict[str, np.ndarray]]

  def summary(self, options, seed: int) -> dict[str, Any]:
    """Returns means and 95 % bootstrap intervals, JSON-compatible.

    Args:
      options: `config.evaluation`.
      seed: Of the run.
    """

    def interval(values):
      found = statistics.bootstrap_interval(values, seed=seed)
      return {
          'mean': None if np.isnan(found.mean) else found.mean,
          'interval': (
              None if np.isnan(found.low) else [found.low, found.high]
          ),
          'images': int(np.isfinite(values).sum()),
      }

    area = self.values['morf_area']
    return {
        'names': list(self.maps),
        'images': len(self.images),
        'region': region_of(options, self.images.shape),
        'draws': options.draws,
        'reference': self.reference,
        'measures': {
            measure: {name: interval(x) for name, x in by_name.items()}
            for measure, by_name in self.values.items()
        },
        'morf_area_to_reference': {
            name: interval(x - area[self.reference])
            for name, x in area.items()
            if name != self.reference
        },
    }


def region_of(options, shape: tuple[int, ...]) -> int:
  """Returns the side of the regions that are perturbed, in pixels."""
  return options.region or max(1, min(shape[1:3]) // 8)


def measure(
    config,
    dataset: sources.Dataset,
    network: Network,
    other: Network | None = None,
) -> Measured:
  """Measures a method's own map and the explainers of the config.

  Args:
    config: The whole config.
    dataset: The data; test images are chosen by their ids.
    network: Of `config.method.name`.
    other: The same, trained with another seed.
  """
  options = config.evaluation
  method, variables = network
  columns = _chosen(dataset.test, options.num_images, config.seed)
  images = batches.to_float(columns['image'])
  logits = evaluators.predict(
      method, variables, columns, options.batch_size, attribution=False
  ).logits
  predicted = logits.argmax(-1)
  masking = teachers.masking(config.attribution, dataset.train['image'])
  makers = teachers.map_makers(config, network, masking)
  logging.info(
      'Explaining %s on %d test images, for comparison: %s.',
      config.method.name, len(images), ', '.join(makers),
  )
  maps = {
      name: make(images, predicted)
      for name, make in tqdm(makers.items(), desc='maps', unit='explainer')
  }
  curves, values = perturb(config, network, images, predicted, maps, masking)
  values |= gaps(config, network, images, predicted, maps, masking)
  values |= close_look(
      config, network, images, predicted, maps, makers, masking, other
  )
  if 'mask' in dataset.test:
    values |= localise(config, dataset, network, columns['mask'], maps, makers)
  return Measured(
      method=config.method.name,
      reference=config.attribution.explainer,
      images=images,
      labels=columns['label'],
      predicted=predicted,
      probabilities=np.asarray(jax.nn.softmax(logits)),
      maps=maps,
      curves=curves,
      values=values,
  )


def _chosen(
    columns: sources.Columns, count: int, seed: int
) -> sources.Columns:
  """Draws examples by their ids; more of them include fewer."""
  priority = rng.uniform_by_id(seed, 'evaluation', columns['id'])
  rows = np.argsort(priority, kind='stable')[:count]
  return {name: column[rows] for name, column in columns.items()}


def perturb(
    config,
    network: Network,
    images: np.ndarray,
    classes: np.ndarray,
    maps: dict[str, np.ndarray],
    masking: dict[str, Any],
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
  """Perturbs regions in the order of each map.

  Returns:
    The MoRF curve of each image by the name of the map, and the measures.
  """
  options = config.evaluation
  score_fn = functools.partial(teachers.scores, *network, 'probability')
  hidden = np.asarray(maskers.background(images, **masking))
  key = rng.stream(config.seed, 'perturbation')
  morf, lerf = (
      perturbation.perturbation_curves(
          score_fn,
          region=region_of(options, images.shape),
          draws=options.draws,
          order=order,
          batch_size=options.batch_size,
      )
      for order in ('morf', 'lerf')
  )
  curves: dict[str, dict[str, np.ndarray]] = {}
  for name, values in tqdm(maps.items(), desc='curves', unit='explainer'):
    found = {
        'morf': morf(images, values, classes, key),
        'lerf': lerf(images, values, classes, key),
        'deletion': morf(images, values, classes, key, hidden),
        'insertion': morf(hidden, values, classes, key, images),
    }
    for kind, curve in found.items():
      curves.setdefault(kind, {})[name] = curve
  measures = {
      f'{kind}_area': {n: perturbation.area(c) for n, c in by_name.items()}
      for kind, by_name in curves.items()
  }
  measures['morf_aopc'] = {
      name: perturbation.aopc(curve) for name, curve in curves['morf'].items()
  }
  return curves['morf'], measures


def gaps(
    config,
    network: Network,
    images: np.ndarray,
    classes: np.ndarray,
    maps: dict[str, np.ndarray],
    masking: dict[str, Any],
) -> dict[str, dict[str, np.ndarray]]:
  """Measures |sum of the map - (f(x) - f(hidden))|, where it should be 0."""
  score = model_fn.numpy_callable(
      functools.partial(
          teachers.scores, *network, config.attribution.explained_output
      ),
      config.evaluation.batch_size,
  )
  rows = np.arange(len(images))
  hidden = np.asarray(maskers.background(images, **masking))
  change = (score(images) - score(hidden))[rows, classes]
  return {
      'completeness_gap': {
          name: np.abs(values.sum(axis=(1, 2, 3)) - change)
          for name, values in maps.items()
          if name in (*explainers.COMPLETE, 'integrated_gradients')
      }
  }


def close_look(
    config,
    network: Network,
    images: np.ndarray,
    classes: np.ndarray,
    maps: dict[str, np.ndarray],
    makers: dict[str, teachers.MapFn],
    masking: dict[str, Any],
    other: Network | None = None,
) -> dict[str, dict[str, np.ndarray]]:
  """Measures on a few images what needs maps to be made anew.

  `rank_correlation`, `cosine` and `relative_l2` compare a map with the Owen
  values of `evaluation.reference_evals` evaluations. The rest are rank
  correlations, of which chance is 0 (it is not of cosines, which maps without
  negative values raise): `stability` with the map of the image with a little
  noise; `randomisation` with the map of a network whose parameters are
  shuffled (after Adebayo et al., 2018); `seed_agreement` with the map of the
  same class of the network of another seed.
  """
  options = config.evaluation
  count = options.close_images
  images, classes = images[:count], classes[:count]
  maps = {name: values[:count] for name, values in maps.items()}
  owen = teachers.owen_values(
      config.attribution, network, masking, options.reference_evals
  )(images, classes)
  noise = rng.numpy_stream(config.seed, 'stability').normal(
      0, options.noise, images.shape
  )
  noisy = np.clip(images + noise, 0, 1).astype(np.float32)
  scrambled = network[0], randomised(network, config.seed)
  random_makers = teachers.map_makers(config, scrambled, masking)
  values: dict[str, dict[str, np.ndarray]] = {}
  if other:
    values['seed_agreement'] = {
        name: agreement.rank_correlation(maps[name], make(images, classes))
        for name, make in teachers.map_makers(config, other, masking).items()
    }
  for name, own in tqdm(maps.items(), desc='close look', unit='explainer'):
    for measure, compare, another in (
        ('rank_correlation', agreement.rank_correlation, owen),
        ('cosine', agreement.cosine, owen),
        ('relative_l2', agreement.relative_l2, owen),
        (
            'stability',
            agreement.rank_correlation,
            makers[name](noisy, classes),
        ),
        (
            'randomisation',
            agreement.rank_correlation,
            random_makers[name](images, classes),
        ),
    ):
      values.setdefault(measure, {})[name] = compare(own, another)
  return values


def randomised(network: Network, seed: int) -> dict[str, Any]:
  """Returns a network's variables with all parameters shuffled, M's too.

  Within each array, so that their scale stays what training made it; the
  statistics of normalisations stay.
  """
  stream = rng.numpy_stream(seed, 'randomised')

  def shuffled(path, leaf):
    if jax.tree_util.DictKey('params') not in path:
      return leaf
    return stream.permutation(np.asarray(leaf).ravel()).reshape(leaf.shape)

  return jax.tree_util.tree_map_with_path(shuffled, network[1])


def localise(
    config,
    dataset: sources.Dataset,
    network: Network,
    masks: np.ndarray,
    maps: dict[str, np.ndarray],
    makers: dict[str, teachers.MapFn],
) -> dict[str, dict[str, np.ndarray]]:
  """Measures EPG and IoU; the threshold is chosen on validation images."""
  held_out = _chosen(
      dataset.validation, config.evaluation.num_images, config.seed
  )
  logits = evaluators.predict(
      *network, held_out, config.evaluation.batch_size, attribution=False
  ).logits
  images, classes = batches.to_float(held_out['image']), logits.argmax(-1)
  truth, masks = (
      np.asarray(x, bool).reshape(x.shape[:3])
      for x in (held_out['mask'], masks)
  )
  values = {'epg': {}, 'iou': {}}
  for name, own in maps.items():
    found = makers[name](images, classes)
    threshold = localisation.best_threshold(found, truth)
    values['epg'][name] = localisation.epg(own, masks)
    values['iou'][name] = localisation.iou(own, masks, threshold)
  return values
