"""Met or obeyed: where, of what and of which sign must a map be guided?

  python -m tests.benchmarks.guidance_levers --data_dir=DIR
      [--variants=plain,x_dnn,b_cos] [--task=one_versus_rest] [--jobs=2]

The data and the training of `guidance_effect`. For each kind of network, at the
input or at a later layer, of a logit or of the difference of the logits, what
speaks for a class or also what speaks against it: the energy of the map outside
the boxes, with a λ' of three decades, chosen on seed 0 by the accuracy on
validation images with other surroundings. Beside them λ = 0, and the bound to
beat, training on other surroundings, which needs no explanation.

A guided network has *met* what was asked where the map that was guided is in
the box, and *obeyed* where its worst group is right too. Prints both for each
lever, and where maps are that were not guided. What a run found is kept in
--workdir, and not done again.
"""

import json
import pathlib
import tempfile
import time

from impactx_jax.report import console
from tests.benchmarks import guidance_effect
from tests.benchmarks import guidance_runs
from tests.benchmarks import guidance_tables as tables

CHOOSING = 0  # The seed on which λ' is chosen.


def chosen(
    found: dict[str, dict], variant: str, levers: list[str]
) -> list[str]:
  """Returns for each lever the name of the run with the best λ'.

  Args:
    found: What each run does on the seed of the choice.
    variant: Of the network.
    levers: Of them, which.
  """
  return [
      max(
          (
              tables.of_lambda(lever, value)
              for value in tables.of_lever(variant, lever)
          ),
          key=lambda name: found[name]['swapped_validation'],
      )
      for lever in levers
  ]


def of_variant(variant: str, workdir: pathlib.Path, seeds, arguments) -> dict:
  """Runs a kind of network; returns what was chosen, and what it does."""
  arguments.variant, arguments.table = variant, f'levers_{variant}'
  arguments.workdir = str(workdir / variant)
  levers = tables.levers_of(variant)
  if arguments.levers:
    levers = arguments.levers.split(';')
    if unknown := {*levers} - {*tables.levers_of(variant)}:
      raise SystemExit(
          f'--levers names {"; ".join(sorted(unknown))}, and {variant} has '
          f'{"; ".join(tables.levers_of(variant))}.'
      )
  beside = [tables.CONTROL, tables.BOUND]
  arguments.runs = ';'.join(beside + [
      tables.of_lambda(lever, value)
      for lever in levers for value in tables.of_lever(variant, lever)
  ])
  first = guidance_runs.run([CHOOSING], arguments)[0]
  arguments.runs = ';'.join(beside + chosen(first, variant, levers))
  found = guidance_runs.run(seeds, arguments)
  return {
      'choice': first,
      'seeds': dict(zip(seeds, found, strict=True)),
      'rows': [
          {'name': f'{variant}: {name}', 'cells': cells}
          for name, *cells in guidance_effect.rows_of(found)
      ],
  }


def main() -> None:
  parser = guidance_runs.parser(
      __doc__, 'ground/cifar10_drawn', guidance_runs.EPOCHS
  )
  parser.set_defaults(seeds='1,2,3', guided='')
  parser.add_argument('--variants', default=','.join(tables.ATTRIBUTIONS))
  parser.add_argument('--levers', default='', help='names, by semicolons')
  parser.add_argument('--task', default='', help='of the data')
  arguments = parser.parse_args()
  seeds = [int(seed) for seed in arguments.seeds.split(',')]
  if CHOOSING in seeds:
    raise SystemExit(
        f"--seeds has {CHOOSING}, on which λ' is chosen: give others."
    )
  workdir = pathlib.Path(arguments.workdir or tempfile.mkdtemp())
  start = time.monotonic()
  found = {
      variant: of_variant(variant, workdir, seeds, arguments)
      for variant in arguments.variants.split(',')
  }
  seconds = time.monotonic() - start
  rows = [row for variant in found.values() for row in variant['rows']]
  print(console.table(
      guidance_effect.columns_of(arguments),
      [[row['name'], *row['cells']] for row in rows],
  ))
  print(f'{len(seeds)} seeds, {seconds:.0f} s.')
  if arguments.out:
    pathlib.Path(arguments.out).write_text(json.dumps({
        'data': arguments.data, 'task': arguments.task, 'variants': found,
        'seconds': seconds,
    }, indent=1))


if __name__ == '__main__':
  main()
