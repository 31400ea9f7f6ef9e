"""A learned explainer against `partition`: fidelity, cost, and when it pays.

  python -m tests.benchmarks.learned_explainer --workdir=DIR \
      [--data_dir=DIR | --shapes=NAME] [--images=N] [--sees=NAME] \
      [--points=N] [--epochs=N] [--filters=N] [--objective=NAME] [--maps=N] \
      [--classifier=DIR]

Runs the recipe digits_explainer, with --shapes the same on shapes, or with
--data_dir cifar10_explainer: stage one, the maps, and D; what is complete in
the workdir is kept. Then, on N test images and the class that the network
predicts, the learned map and `partition` at 50 to 2,000 evaluations: seconds
an image, rank correlation over cells with Owen values of 8,000 evaluations,
insertion and MoRF area, the learned map's insertion area minus it, paired, and
from how many images on learning costs less than computing. The controls are
the same map of another image of the same class, the class mean of the training
maps, and Integrated Gradients.

The last line is `r2=… rank_correlation=… swap_difference_low=…
m_shuffled_rank=… break_even_images=…`: R2 and rank correlation over cells with
the maps of the validation images; the lower end of the 95 % interval of the
paired difference in insertion area, own map minus another image's; the rank
correlation of the map with itself when A alone is shuffled; and the images from
which on learning pays, against the smallest budget whose maps are at least as
close to the Owen values, or the largest if none is. With --images=0 it is R2
and rank correlation alone, for a curve over what D sees, its size and its maps.
"""

import argparse
import time
from typing import NamedTuple

from attribution import files
from attribution.metrics import agreement
from attribution.metrics import faithfulness
from attribution.metrics import intervals
from impactx_jax import losses
from impactx_jax import stages
from impactx_jax.configs import cifar10_explainer
from impactx_jax.configs import digits_explainer
from impactx_jax.data import columns as column_lib
from impactx_jax.data import maps as map_data
from impactx_jax.evaluation import controls
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation import measure_maps
from impactx_jax.evaluation import randomisation
from impactx_jax.report import console
from impactx_jax.stages import maps as maps_stage
from impactx_jax.stages import provenance
from impactx_jax.stages import runs
from impactx_jax.stages import trained
from impactx_jax.training import evaluator
import numpy as np
from tqdm.auto import tqdm

BUDGETS = (50, 100, 250, 500, 1000, 2000)
REFERENCE = 8000
CLOSE = 100  # Images of the Owen values, and of the randomised network.
LEARNED = 'learned'
HEADER = [
    'map', 'ms an image', 'rank corr.', 'insertion', 'MoRF', 'own - other',
    'learned - it', 'pays from',
]


def config_of(arguments: argparse.Namespace):
  """The recipe, with what the arguments change."""
  recipe = cifar10_explainer if arguments.data_dir else digits_explainer
  config = recipe.get_config()
  if arguments.shapes:
    config.data.name = f'shapes/{arguments.shapes}'
  if arguments.data_dir:
    config.data.data_dir = arguments.data_dir
  config.method.decoder_sees = arguments.sees
  if arguments.points:
    config.method.gradient_points = arguments.points
  if arguments.filters:
    config.method.decoder_filters = arguments.filters
  if arguments.epochs:
    config.method.training.epochs = arguments.epochs
  if arguments.objective:
    config.method.explainer_objective = arguments.objective
  config.attribution.num_examples = arguments.maps
  if arguments.classifier:
    config.classifier.workdir = arguments.classifier
    if not arguments.maps:
      config.attribution.workdir = arguments.classifier
  config.evaluation.explainers = ('integrated_gradients',)
  config.evaluation.num_images = max(1, arguments.images)
  config.evaluation.close_images = min(CLOSE, config.evaluation.num_images)
  return config


class Compared(NamedTuple):
  """Maps of the same images and classes, by name.

  Attributes:
    images: float32 [N, H, W, C].
    classes: int [N].
    maps: By name.
    seconds: An image, of those that are computed.
    makers: Of these.
  """

  images: np.ndarray
  classes: np.ndarray
  maps: dict[str, np.ndarray]
  seconds: dict[str, float]
  makers: dict[str, explaining.Explain]


def partition(max_evals: int) -> str:
  """What the maps of so many evaluations are called."""
  return f'partition, {max_evals}'


def on_validation(maps, network, config) -> tuple[float, np.ndarray]:
  """Returns R2 and each rank correlation with the validation images' maps."""
  columns = map_data.targets(maps, config.method, config.seed)['validation']
  found = evaluator.predict(
      *network, columns, config.evaluation.batch_size,
      classes=columns['explained'],
  ).attribution
  ours, theirs = (
      losses.pool(x, config.method.map_cell) for x in (found, columns['map'])
  )
  if config.method.explainer_objective == 'fastshap':  # Values, not scaled.
    ours = losses.scale_maps(ours, 'max_abs')
  wrong = ((ours - theirs) ** 2).mean()
  ranks = agreement.rank_correlation(ours, theirs)
  return float(1 - wrong / theirs.var(axis=0).mean()), ranks


def interval(values: np.ndarray) -> str:
  found = intervals.bootstrap_interval(values, seed=0)
  return f'{found.mean:.3f} [{found.low:.3f}, {found.high:.3f}]'


def learn(arguments: argparse.Namespace) -> tuple[runs.Run, runs.Run]:
  """Trains what is not trained yet.

  Returns:
    The run, and the one whose maps it is measured by: itself, unless it learns
    from none.
  """
  config, workdir = config_of(arguments), arguments.workdir
  for stage in ('classifier', 'maps', 'impactx'):
    stages.run(config, workdir, stage)
  run = runs.resolve(config, workdir)
  if run.maps:
    return run, run
  config.method.explainer_objective = 'maps'
  config.classifier.workdir = config.classifier.workdir or workdir
  config.attribution.workdir = config.attribution.workdir or workdir
  stages.run(config, f'{workdir}/measured_by', 'maps')
  return run, runs.resolve(config, f'{workdir}/measured_by')


def explain(run, training_maps, network, columns, masker) -> Compared:
  """Makes the maps of the predicted classes, with the seconds they take."""
  config, (method, variables) = run.config, network
  images = column_lib.to_float(columns['image'])
  classes = np.asarray(method.task.top(evaluator.predict(
      *network, columns, config.evaluation.batch_size, attribution=False
  ).logits))
  compared = explaining.compared(config, method, masker)
  makers = {
      LEARNED: compared['explainer'],
      'Integrated Gradients': compared['integrated_gradients'],
  } | {
      partition(n): explaining.owen_values(
          method, config.attribution, masker, n
      )
      for n in BUDGETS
  }
  maps, seconds = {}, {}
  for name, make in tqdm(makers.items(), desc='maps', unit='explainer'):
    make(variables, images, classes)  # Compiles.
    start = time.perf_counter()
    maps[name] = make(variables, images, classes)
    seconds[name] = (time.perf_counter() - start) / len(images)
  means = controls.of_training_maps(
      training_maps, len(runs.dataset(run).class_names)
  )
  maps['class mean'] = means['class_mean'](None, images, classes)
  maps['learned, another image'] = maps[LEARNED][faithfulness.partners(
      classes
  )]
  return Compared(images, classes, maps, seconds, makers)


def likeness(run, network, found: Compared, masker):
  """Returns the rank correlations over cells with Owen values, and with A
  shuffled that of the learned map with itself."""
  config, (method, variables) = run.config, network
  few = slice(config.evaluation.close_images)
  images, classes = found.images[few], found.classes[few]
  owen = explaining.owen_values(
      method, config.attribution, masker, REFERENCE
  )(variables, images, classes)
  shuffled = randomisation.randomised(
      variables, config.seed, method.parts['M']
  )
  again = found.makers[LEARNED](shuffled, images, classes)

  def ranks(maps, others):
    return agreement.rank_correlation(*(
        losses.pool(x.sum(-1, keepdims=True), config.method.map_cell)
        for x in (maps, others)
    ))

  close = {name: ranks(maps[few], owen) for name, maps in found.maps.items()}
  return close, ranks(found.maps[LEARNED][few], again)


def main() -> None:
  """Learns, measures, prints, and keeps the figures in the workdir."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--workdir', required=True, help='is continued')
  parser.add_argument('--data_dir', default='', help='where TFDS has CIFAR-10')
  parser.add_argument('--shapes', default='', help='such as easy or small')
  parser.add_argument(
      '--images', type=int, default=200, help='of the test; 0: none'
  )
  parser.add_argument('--sees', default='', help='as method.decoder_sees')
  parser.add_argument(
      '--points', type=int, default=0, help='as method.gradient_points'
  )
  parser.add_argument('--filters', type=int, default=0, help='of D')
  parser.add_argument('--epochs', type=int, default=0, help='of D')
  parser.add_argument(
      '--objective', default='', help='as method.explainer_objective'
  )
  parser.add_argument(
      '--maps', type=int, default=0, help='to learn from; 0: of all images'
  )
  parser.add_argument(
      '--classifier', default='', help='workdir with A and its maps'
  )
  arguments = parser.parse_args()
  run, of_maps = learn(arguments)
  config, dataset = run.config, runs.dataset(run)
  training_maps = maps_stage.read_maps(of_maps, dataset.fingerprint())
  network = trained.restore(run.trained('explainer'))
  r2, ranks = on_validation(training_maps, network, config)
  if not arguments.images:
    print(f'r2={r2:.3f} rank_correlation={ranks.mean():.3f}')
    return
  masker = explaining.masker(config.attribution, dataset.train['image'])
  columns = column_lib.sample(dataset.test, arguments.images, config.seed)
  found = explain(run, training_maps, network, columns, masker)
  _, values = measure_maps.perturb(
      config, network, found.images, found.classes, found.maps, masker
  )
  close, alone = likeness(run, network, found, masker)

  summary, each = run.trained('explainer').load(), found.seconds
  count = sum(run.maps.load()['examples'].values()) if run.maps else 0
  making = count * each[partition(config.attribution.max_evals)]
  pays = {
      name: (making + summary['seconds']) / (seconds - each[LEARNED])
      for name, seconds in each.items()
      if name != LEARNED and seconds > each[LEARNED]
  }
  as_close = [
      n for n in BUDGETS
      if close[partition(n)].mean() >= close[LEARNED].mean()
  ]
  against = min(as_close, default=max(BUDGETS))
  insertion = values['insertion_area']
  rows = [
      [
          name,
          f'{1000 * each[name]:.2f}' if name in each else '',
          interval(close[name]),
          *(
              interval(values[measure][name])
              for measure in ('insertion_area', 'morf_area', 'swap_difference')
          ),
          '' if name == LEARNED else interval(
              insertion[LEARNED] - insertion[name]
          ),
          f'{pays[name]:,.0f}' if name in pays else '',
      ]
      for name in found.maps
  ]
  made = provenance.collect()
  print(
      f'\n{dataset.name}, {len(found.images)} test images, {made["device"]}, '
      f'jax {made["versions"]["jax"]}\n\n{console.table(HEADER, rows)}\n\n'
      f'Learning took {making:.0f} s for {count} maps and '
      f'{summary["seconds"]:.0f} s of training. partition at {against} '
      f'evaluations is {"as close" if as_close else "not as close"}.'
  )
  figures = {
      'r2': r2,
      'rank_correlation': float(ranks.mean()),
      'swap_difference_low': intervals.bootstrap_interval(
          values['swap_difference'][LEARNED], seed=0
      ).low,
      'm_shuffled_rank': float(alone.mean()),
      'break_even_images': (
          round(pays[partition(against)]) if partition(against) in pays
          else 'never'  # One pass takes longer.
      ),
  }
  files.write_json(run.workdir / 'learned_explainer.json', {
      'figures': figures,
      'table': [dict(zip(HEADER, row, strict=True)) for row in rows],
      'seconds': {'maps': making, 'training': summary['seconds'], **each},
      'provenance': {k: v for k, v in made.items() if k != 'command'},
  })
  print(' '.join(
      f'{name}={value:.3f}' if isinstance(value, float) else f'{name}={value}'
      for name, value in figures.items()
  ))


if __name__ == '__main__':
  main()
