"""Are the maps explanations? A method's own map and explainers', side by side.

All explain the same model, the class that it predicts on the clean image, and
all meet the same noise (IMPACTX, section 5.2).
"""

from absl import logging
from attribution import explainers
from attribution import model_fn
from attribution.maskers import Masker
from attribution.metrics import agreement
from attribution.metrics import faithfulness
from attribution.metrics.intervals import Values
from impactx_jax import rng
from impactx_jax import user_files
from impactx_jax.data import columns as column_lib
from impactx_jax.data import masks
from impactx_jax.data import sources
from impactx_jax.data.columns import Columns
from impactx_jax.evaluation import controls
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation import localising
from impactx_jax.evaluation import randomisation
from impactx_jax.evaluation.explaining import Explain
from impactx_jax.evaluation.explaining import Network
from impactx_jax.evaluation.measured import Measured
from impactx_jax.evaluation.measured import region_of
from ml_collections import ConfigDict
import numpy as np
from tqdm.auto import tqdm



def measure(
    config: ConfigDict,
    dataset: sources.Dataset,
    network: Network,
    other: Network | None = None,
    training: Columns | None = None,
    classifier: Network | None = None,
) -> Measured:
  """Measures a method's own map, explainers of the config, and controls.

  Args:
    config: The whole config.
    dataset: The data; test images are chosen by their ids.
    network: Of `config.method.name`.
    other: The same, trained with another seed.
    training: The maps that it was trained on, as the shards have them; None
      for a method without, which is not compared with their means.
    classifier: A, whose own explanation is measured beside that of the network.
  """
  options = config.evaluation
  method, variables = network
  columns = column_lib.sample(dataset.test, options.num_images, config.seed)
  images = column_lib.to_float(columns['image'])
  logits, predicted = explaining.answers(
      network, columns, options.batch_size
  )
  masker = explaining.masker(config.attribution, dataset.train['image'])
  makers = explaining.compared(config, method, masker)
  num_classes = len(dataset.class_names)
  constants = {}
  if training is not None:
    constants |= controls.of_training_maps(training, num_classes)
  if (mask := masks.mean_mask(dataset, config.seed)) is not None:
    constants['mean_mask'] = controls.constant(
        np.broadcast_to(mask, (num_classes, *mask.shape))
    )
  logging.info(
      'Explaining %s on %d test images, for comparison: %s.',
      config.method.name, len(images), ', '.join(makers),
  )
  maps = {
      name: make(variables, images, predicted)
      for name, make in tqdm(
          (makers | constants).items(), desc='maps', unit='explainer'
      )
  }
  partner = faithfulness.partners(predicted)
  own = user_files.stem(config.method.name)
  reference = user_files.stem(
      explaining.reference(config.attribution, method)
  )
  maps[controls.SWAPPED] = maps[own][partner]
  if classifier and not np.allclose(
      explaining.answers(classifier, columns, options.batch_size)[0], logits,
      atol=1e-4,
  ):
    of_a = explaining.reference(config.attribution, classifier[0])
    explain = explaining.explainer(
        classifier[0], config.attribution, masker, explainer=of_a
    )
    maps[user_files.stem(of_a) + localising.OF_A] = explain(
        classifier[1], images, predicted
    )
  curves, values = perturb(config, network, images, predicted, maps, masker)
  values['between_images'] = {
      name: agreement.rank_correlation(found, np.roll(found, -1, axis=0))
      for name, found in maps.items()
  }
  values |= gaps(config, network, images, predicted, maps, masker)
  values |= close_look(
      config, network, images, predicted, maps, makers, masker, other
  )
  likeness, accuracies = randomisation.measure(
      config, network, columns, predicted, maps, makers
  )
  values |= likeness
  share = None
  if mask is not None:
    values |= localising.measure(
        config, dataset, network, columns, predicted, maps, makers | constants
    )
    share = localising.mask_share(columns, predicted, num_classes)
  for by_name in (*values.values(), curves):
    if controls.SWAPPED in by_name:
      swapped = by_name[controls.SWAPPED]
      swapped[partner[: len(swapped)] < 0] = np.nan
  task = method.task
  return Measured(
      method=own,
      reference=reference,
      images=images,
      labels=columns[task.labels],
      right=np.asarray(
          task.right(task.answer(logits), columns[task.labels])
      ),
      predicted=predicted,
      probabilities=np.asarray(task.probabilities(logits)),
      maps=maps,
      curves=curves,
      values=values,
      randomised_accuracy=accuracies,
      mask_share=share,
  )


def perturb(
    config: ConfigDict,
    network: Network,
    images: np.ndarray,
    classes: np.ndarray,
    maps: dict[str, np.ndarray],
    masker: Masker,
) -> tuple[dict[str, np.ndarray], Values]:
  """Perturbs regions in the order of each map, see `faithfulness.perturb`.

  Returns:
    The MoRF curve of each image by the name of the map, and the measures.
  """
  options = config.evaluation
  method, variables = network
  curves, values = faithfulness.perturb(
      explaining.scores(method, 'probability'), variables, images, maps,
      classes,
      hidden=np.asarray(masker.background(images)),
      key=rng.stream(config.seed, 'perturbation'),
      region=region_of(options, images.shape),
      draws=options.draws,
      batch_size=options.batch_size,
      unswapped=(controls.SWAPPED,),
  )
  return curves['morf'], values


def gaps(
    config: ConfigDict,
    network: Network,
    images: np.ndarray,
    classes: np.ndarray,
    maps: dict[str, np.ndarray],
    masker: Masker,
) -> Values:
  """Measures |sum of the map - (f(x) - f(hidden))|, where it should be 0."""
  method, variables = network
  score = model_fn.numpy_callable(
      explaining.scores(method, config.attribution.explained_output),
      config.evaluation.batch_size,
  )
  rows = np.arange(len(images))
  hidden = np.asarray(masker.background(images))
  complete = [n for n, spec in explainers.EXPLAINERS.items() if spec.complete]
  complete.append('integrated_gradients')  # But for its steps.
  change = (score(variables, images) - score(variables, hidden))[rows, classes]
  return {
      'completeness_gap': {
          name: faithfulness.completeness_gap(values, change)
          for name, values in maps.items()
          if name in complete
      }
  }


def close_look(
    config: ConfigDict,
    network: Network,
    images: np.ndarray,
    classes: np.ndarray,
    maps: dict[str, np.ndarray],
    makers: dict[str, Explain],
    masker: Masker,
    other: Network | None = None,
) -> Values:
  """Measures on a few images what needs maps to be made anew.

  `rank_correlation`, `cosine` and `relative_l2` compare a map with the Owen
  values of `evaluation.reference_evals` evaluations. The rest are rank
  correlations, of which chance is 0 (it is not of cosines, which maps without
  negative values raise): `stability` with the map of the image with a little
  noise; `seed_agreement` with the map of the same class of the network of
  another seed.
  """
  options = config.evaluation
  method, variables = network
  count = options.close_images
  images, classes = images[:count], classes[:count]
  maps = {name: values[:count] for name, values in maps.items()}
  owen = explaining.owen_values(
      method, config.attribution, masker, options.reference_evals
  )(variables, images, classes)
  noise = rng.numpy_stream(config.seed, 'stability').normal(
      0, options.noise, images.shape
  )
  noisy = np.clip(images + noise, 0, 1).astype(np.float32)
  values: Values = {}
  if other:
    theirs = explaining.compared(config, other[0], masker)
    values['seed_agreement'] = {
        name: agreement.rank_correlation(
            maps[name], make(other[1], images, classes)
        )
        for name, make in theirs.items()
    }
  for name, own in tqdm(maps.items(), desc='close look', unit='explainer'):
    pairs = [
        ('rank_correlation', agreement.rank_correlation, owen),
        ('cosine', agreement.cosine, owen),
        ('relative_l2', agreement.relative_l2, owen),
    ]
    if name in makers:
      pairs.append((
          'stability', agreement.rank_correlation,
          makers[name](variables, noisy, classes),
      ))
    for measure, compare, another in pairs:
      values.setdefault(measure, {})[name] = compare(own, another)
  return values
