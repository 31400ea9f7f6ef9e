"""Which epoch of a training should be kept: rules compared on validation alone.

  python -m tests.benchmarks.checkpoint_rule --workdir=DIR
  python -m tests.benchmarks.checkpoint_rule --workdir=DIR --data_dir=DATA_DIR

Half of the training images are held out. Of these a small part, as large as the
validation split of the recipe, chooses the epoch, and the rest judges it; this
is done with many such parts for each seed. The test split is not looked at.
Without DATA_DIR the digits, stages one and two; with it stage one on a fifth of
CIFAR-10. Prints, for each rule and patience, the accuracy and cross-entropy on
the judging images, the map R² of the epoch and its number, with 95 % intervals
over seeds of the paired difference to the first rule. Each training is kept in
DIR, and is not done again.
"""

import argparse
import pathlib

from impactx_jax import stages
from impactx_jax.configs import cifar10_lenet5
from impactx_jax.configs import quickstart
from impactx_jax.evaluation import statistics
from impactx_jax.report import console
from impactx_jax.training import evaluator
import numpy as np
from scipy import special

EPOCHS = 60
PARTS = 50  # Choosing parts of each seed.


def by_accuracy(accuracy, cross_entropy):
  """The greatest accuracy, the earliest of equals."""
  del cross_entropy
  return [(-a, i) for i, a in enumerate(accuracy)]


def by_accuracy_then_entropy(accuracy, cross_entropy):
  """The greatest accuracy, of equals the one with less cross-entropy."""
  return list(zip(-accuracy, cross_entropy, strict=True))


def by_entropy(accuracy, cross_entropy):
  """The least cross-entropy."""
  del accuracy
  return [(c,) for c in cross_entropy]


def by_last(accuracy, cross_entropy):
  """The last epoch that was trained."""
  del cross_entropy
  return [(-i,) for i in range(len(accuracy))]


RULES = {
    'accuracy, earliest': by_accuracy,
    'accuracy, then cross-entropy': by_accuracy_then_entropy,
    'cross-entropy': by_entropy,
    'last epoch': by_last,
}


def config_of(seed: int, data_dir: str):
  """The recipe, with half of the images held out and every epoch trained."""
  config = (cifar10_lenet5 if data_dir else quickstart).get_config()
  if data_dir:
    config.data.data_dir = data_dir
    config.data.label_fraction = 0.2
  config.seed = seed
  config.data.validation_fraction = 0.5
  for training in (config.classifier.training, config.method.training):
    training.epochs, training.patience = EPOCHS, 0
  return config


def record(folder: pathlib.Path, seed: int, data_dir: str) -> None:
  """Trains, and keeps each epoch's logits of the held-out images."""
  kept, measure = [], evaluator.measure

  def measured(method, variables, columns, batch_size):
    found = measure(method, variables, columns, batch_size)
    logits = evaluator.predict(
        method, variables, columns, batch_size, attribution=False
    ).logits
    kept.append((logits, columns['label'], found.get('map_r2', np.nan)))
    return found

  evaluator.measure = measured
  stages_of = ('classifier',) if data_dir else ('classifier', 'maps', 'impactx')
  for stage in stages_of:
    path = folder / f'{stage}{seed}.npz'
    if path.exists():
      continue
    kept.clear()
    stages.run(config_of(seed, data_dir), folder / f'seed{seed}', stage)
    if stage != 'maps':
      # With too few maps a control is trained as well; here there are all.
      assert len(kept) == EPOCHS, len(kept)
      np.savez(
          path, logits=np.stack([x for x, _, _ in kept]), labels=kept[0][1],
          map_r2=np.array([r2 for _, _, r2 in kept]),
      )
  evaluator.measure = measure


def judge(path: pathlib.Path, choosing: int, patience: int) -> np.ndarray:
  """Returns what each rule's epochs come to, the mean over parts.

  Args:
    path: Of what `record` kept.
    choosing: Images that choose.
    patience: Epochs without a better one before stopping; 0: never.

  Returns:
    float [rules, 4]: accuracy, cross-entropy, map R², epoch from 1.
  """
  kept = np.load(path)
  labels = kept['labels']
  log_p = special.log_softmax(kept['logits'].astype(np.float64), axis=-1)
  loss = -log_p[:, np.arange(len(labels)), labels]
  right = kept['logits'].argmax(-1) == labels
  stream = np.random.default_rng(0)
  sums = np.zeros((len(RULES), 4))
  for _ in range(PARTS):
    order = stream.permutation(len(labels))
    chooses, judges = order[:choosing], order[choosing:]
    accuracy, entropy = right[:, chooses].mean(1), loss[:, chooses].mean(1)
    for i, rule in enumerate(RULES.values()):
      scores, best = rule(accuracy, entropy), 0
      for epoch in range(len(scores)):
        if scores[epoch] < scores[best]:
          best = epoch
        if patience and epoch - best >= patience:
          break
      sums[i] += (
          right[best, judges].mean(), loss[best, judges].mean(),
          kept['map_r2'][best], best + 1,
      )
  return sums / PARTS


def main() -> None:
  """Records what is missing, and prints the tables."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--data_dir', default='')
  parser.add_argument('--seeds', type=int, default=8)
  arguments = parser.parse_args()
  folder = pathlib.Path(arguments.workdir)
  folder.mkdir(parents=True, exist_ok=True)
  for seed in range(arguments.seeds):
    record(folder, seed, arguments.data_dir)
  choosing = 500 if arguments.data_dir else 145
  for stage in ('classifier',) if arguments.data_dir else (
      'classifier', 'impactx'
  ):
    rows, first = [], None
    for patience in (15, 0):
      found = np.array([
          judge(folder / f'{stage}{seed}.npz', choosing, patience)
          for seed in range(arguments.seeds)
      ])
      first = found[:, 0] if first is None else first
      for i, rule in enumerate(RULES):
        values = found[:, i]
        cells = []
        for k, scale in ((0, 100), (1, 1)):
          difference = statistics.paired_interval(
              scale * values[:, k], scale * first[:, k]
          )
          cells += [
              f'{scale * values[:, k].mean():.3f}',
              f'{difference.mean:+.3f} [{difference.low:+.3f}, '
              f'{difference.high:+.3f}]',
          ]
        r2 = values[:, 2].mean()
        rows.append([
            rule, patience or 'none', *cells,
            '' if np.isnan(r2) else f'{r2:.3f}', f'{values[:, 3].mean():.1f}',
        ])
    print(f'\n{stage}: {arguments.seeds} seeds, {choosing} images choose\n')
    print(console.table(
        ['rule', 'patience', 'accuracy %', 'to the first', 'cross-entropy',
         'to the first', 'map R²', 'epoch'],
        rows,
    ))


if __name__ == '__main__':
  main()
