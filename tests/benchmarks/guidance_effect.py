"""Does guidance make a network go by the object, and what else would?

  python -m tests.benchmarks.guidance_effect --data_dir=DIR [--jobs=2]

`ground/cifar10_drawn`: a disc or a cross on photographs that tell which of the
two it is in all of train and validation, and in half of test. A is trained,
then for as many epochs and from the same A: on with λ = 0; guided into the
boxes; guided into another image's boxes; on with the surroundings of other
images (the same boxes, no explanation); and guided and with other surroundings
with 1 % of the boxes. A seed is a process on a core of its own.

Prints the accuracy of the four groups of test, their smallest, the accuracy on
validation images with other surroundings (by which settings can be chosen
without the groups of test), and the energy inside the box of the map that was
guided, of input × gradient and of SHAP's; then paired differences to λ = 0 with
95 % intervals over seeds. What a run found is kept in --workdir, and not done
again.

  … --table=lambdas|losses|controls|shift

Other runs after A: each loss at each layer with several λ'; with all, a tenth
and a hundredth of the boxes; boxes that know less, and rivals; what other sets
(--data=shapes/ground) are held against.

  … --guided=guidance_sign=positive,guidance_lambda=20 --runs='λ = 0;guided'

What is guided otherwise, and a part of a table.
"""

import json
import pathlib
import time

from impactx_jax.data import sources
from impactx_jax.evaluation import statistics
from impactx_jax.report import console
import numpy as np
from tests.benchmarks import guidance_runs
from tests.benchmarks.guidance_tables import BASELINE
from tests.benchmarks.guidance_tables import CONTROL
from tests.benchmarks.guidance_tables import TABLES


def gains(found: list[dict], field: str) -> dict[str, statistics.Interval]:
  """Returns the paired difference of each run to λ = 0, in points."""
  reference = [100 * seed[CONTROL][field] for seed in found]
  return {
      name: statistics.paired_interval(
          [100 * seed[name][field] for seed in found], reference
      )
      for name in found[0] if name != CONTROL
  }


def rows_of(found: list[dict]) -> list[list[str]]:
  """Returns what each run does: the mean over seeds, under `columns_of`.

  Args:
    found: Of each seed, what A and the runs do, by name.
  """
  rows, worst = [], gains(found, 'worst')
  for name in found[0]:
    mean = {
        field: 100 * np.mean([seed[name][field] for seed in found], axis=0)
        for field in found[0][name]
    }
    gain = worst.get(name)
    rows.append([
        name, *(f'{x:.1f}' for x in mean['groups']), f'{mean["worst"]:.1f}',
        f'{mean["overall"]:.1f}', f'{mean["swapped_validation"]:.1f}',
        f'{mean["epg_guided_map"]:.0f}' if 'epg_guided_map' in mean else '',
        f'{mean["epg_input_x_gradient"]:.0f}', f'{mean["epg_shap"]:.0f}',
        f'{gain.mean:+.1f} [{gain.low:+.1f}, {gain.high:+.1f}]' if gain else '',
    ])
  return rows


def columns_of(arguments) -> list[str]:
  """Returns the names of what `rows_of` says of a run."""
  names = sources.load(
      guidance_runs.config_of(0, arguments).data, 0
  ).group_names
  return [
      '', *names, 'worst %', 'overall %', 'validation, other surroundings %',
      'EPG of its map', 'of input × gradient', 'of SHAP',
      'worst group to λ = 0',
  ]


def main() -> None:
  parser = guidance_runs.parser(
      __doc__, 'ground/cifar10_drawn', guidance_runs.EPOCHS
  )
  parser.add_argument('--table', default='effect', choices=TABLES,
                      help='what is trained after A')
  parser.add_argument('--variant', default='plain', help='of the backbone')
  parser.add_argument('--task', default='', help='of the data')
  parser.add_argument('--guided', default='', help='fields of config.method')
  parser.add_argument('--runs', default='', help='names, by semicolons')
  arguments = parser.parse_args()
  seeds = [int(seed) for seed in arguments.seeds.split(',')]
  if arguments.one:
    guidance_runs.of_seed(seeds[0], pathlib.Path(arguments.one), arguments)
    return
  start = time.monotonic()
  found = guidance_runs.run(seeds, arguments)
  seconds = time.monotonic() - start
  worst, overall = gains(found, 'worst'), gains(found, 'overall')
  rows = rows_of(found)
  print(console.table(columns_of(arguments), rows))
  share = 100 * np.mean([seed[BASELINE]['share'] for seed in found])
  print(f'{len(seeds)} seeds, {seconds:.0f} s; the boxes are {share:.0f} % of '
        'the image, which is the EPG of chance.')
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps({
        'data': arguments.data, 'seeds': dict(zip(seeds, found, strict=True)),
        'worst_group_gain': {n: vars(x) for n, x in worst.items()},
        'overall_gain': {n: vars(x) for n, x in overall.items()},
        'rows': [{'name': row[0], 'cells': row[1:]} for row in rows],
        'seconds': seconds,
    }, indent=1))
  if arguments.table != 'effect' or arguments.runs:
    return
  few = worst['guided, 1 % of the boxes']
  print(f'with_1_percent={few.mean:.1f} low={few.low:.1f} augmentation='
        f'{worst["other surroundings, 1 %"].mean:.1f}')
  control = worst["another image's boxes"].mean
  print(
      f'worst_group_gain={worst["guided"].mean:.1f} '
      f'low={worst["guided"].low:.1f} control_gain={control:.1f} '
      f'overall_gain={overall["guided"].mean:.1f} '
      f'augmentation_gain={worst["other surroundings"].mean:.1f}'
  )


if __name__ == '__main__':
  main()
