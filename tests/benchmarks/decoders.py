"""Does a decoder that sees the classifier help IMPACTX's class?

  python -m tests.benchmarks.decoders --workdir=DIR --data_dir=DATA_DIR \
      --classifier=A [--seeds=5]

Around one A and its maps (A is the workdir of a finished run of
cifar10_lenet5 with --config.attribution.max_evals=500), over seeds: λ = 0, the
paper's decoder, and one that sees A's features and a backward pass of it, with
a map for each class. 8x8 cells, λ = 20, 12 epochs. Prints test accuracy, the
differences to λ = 0 with 95 % intervals of paired seeds and McNemar's test for
each seed, and map R2; keeps them in DIR/decoders.json. What is trained in DIR
is kept.

The last line is `decoder_difference=… low=… high=… map_r2=…`: of the decoder
that sees A to λ = 0, in points.
"""

import argparse
import os

from attribution import files
from etils import epath
from impactx_jax import stages
from impactx_jax.configs import cifar10_lenet5
from impactx_jax.evaluation import statistics
from impactx_jax.report import console
from impactx_jax.stages import evaluate
from impactx_jax.stages import provenance
from impactx_jax.stages import runs
import numpy as np

ROWS = {
    'lambda0': ('λ = 0', 'impactx_lambda0', {}),
    'paper': ("the paper's decoder", 'impactx', {}),
    'gradient': ('D sees A', 'impactx', {
        'decoder_sees': 'gradient', 'decoder_classes': 'all',
        'decoder_filters': 32,
    }),
}


def config_of(arguments: argparse.Namespace, row: str, seed: int):
  """The recipe, around one A and its maps."""
  config = cifar10_lenet5.get_config()
  config.seed = seed
  config.data.data_dir = arguments.data_dir
  for section in ('classifier', 'attribution'):
    config[section].workdir = os.path.abspath(arguments.classifier)
  config.attribution.max_evals = 500
  _, config.method.name, changes = ROWS[row]
  config.method.update(map_cell=4, map_channels=1, lambda_=20.0, **changes)
  config.method.training.epochs = 12
  return config


def main() -> None:
  """Trains, compares, prints."""
  parser = argparse.ArgumentParser(
      description=__doc__, formatter_class=argparse.RawTextHelpFormatter
  )
  parser.add_argument('--workdir', required=True, help='is continued')
  parser.add_argument('--data_dir', required=True)
  parser.add_argument('--classifier', required=True)
  parser.add_argument('--seeds', type=int, default=5)
  arguments = parser.parse_args()

  home, found = epath.Path(arguments.workdir), {row: [] for row in ROWS}
  seeds = range(1, arguments.seeds + 1)
  for seed in seeds:
    for row, (_, name, _) in ROWS.items():
      config = config_of(arguments, row, seed)
      folder = home / row / f'seed{seed}'
      stages.run(config, folder, 'impactx')
      run = runs.resolve(config, folder)
      found[row].append(
          evaluate.test(run, name)
          | {'seconds': run.trained(name).load()['seconds']}
      )
  rows, kept = [], {}
  for row, (title, _, _) in ROWS.items():
    accuracy, control = (
        [100 * x['accuracy'] for x in found[name]] for name in (row, 'lambda0')
    )
    difference = statistics.paired_interval(accuracy, control)
    tests = [
        statistics.mcnemar(*(
            np.asarray(x['correct'], bool) for x in pair
        ))
        for pair in zip(found[row], found['lambda0'], strict=True)
    ]
    significant = [t for t in tests if t.p_value < 0.05]
    better = sum(t.gained > t.lost for t in significant)
    fits = {
        fit: [x[fit] for x in found[row]] for fit in ('map_r2', 'probe_r2')
    }
    means = {  # λ = 0 has learned no maps.
        fit: None if None in values else float(np.mean(values))
        for fit, values in fits.items()
    }
    kept[row] = {
        'accuracy': accuracy,
        'mean': float(np.mean(accuracy)),
        'deviation': float(np.std(accuracy, ddof=1)),
        'to lambda0': [difference.mean, difference.low, difference.high],
        'seeds': len(tests),
        'better': better,
        'worse': len(significant) - better,
        **fits,
        **{f'mean_{fit}': mean for fit, mean in means.items()},
        'seconds': float(np.mean([x['seconds'] for x in found[row]])),
    }
    rows.append([
        title,
        f'{np.mean(accuracy):.2f} ± {np.std(accuracy, ddof=1):.2f}',
        *(
            ('', '') if row == 'lambda0' else (
                f'{difference.mean:+.2f} [{difference.low:+.2f}, '
                f'{difference.high:+.2f}]',
                f'{better} better, {len(significant) - better} worse of '
                f'{len(tests)}',
            )
        ),
        *('' if mean is None else f'{mean:.3f}' for mean in means.values()),
    ])
  print('\n' + console.table(
      ['decoder', 'test %', 'to λ = 0', 'McNemar', 'map R2', 'probe R2'], rows
  ))
  made = provenance.collect()
  files.write_json(home / 'decoders.json', {
      'rows': kept,
      'seeds': list(seeds),
      'provenance': {k: v for k, v in made.items() if k != 'command'},
  })
  mean, low, high = kept['gradient']['to lambda0']
  print(
      f'decoder_difference={mean:.2f} low={low:.2f} high={high:.2f} '
      f'map_r2={kept["gradient"]["mean_map_r2"]:.3f}'
  )


if __name__ == '__main__':
  main()
