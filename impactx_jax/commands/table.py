"""The command `impactx-table`: a cell of the paper's table 2, with controls."""

from absl import flags
from impactx_jax.commands import cli

USAGE = """
impactx-table --config=NAME|FILE --workdir=DIR [--seeds=5] [--methods=A,B:3,…]
    [--config.FIELD=VALUE …]

Trains every method with every seed, or continues where it was interrupted, and
writes DIR/table.md, table.csv, table.json and table.png: test accuracy,
differences to A and to lambda = 0 with 95 % intervals of paired seeds,
McNemar's tests, and a verdict. Methods of one seed share the classifier and its
maps. With --config.classifier.workdir=DIR2 and
--config.attribution.workdir=DIR2 all seeds share those of DIR2.

  impactx-table --config=quickstart --workdir=runs/table --seeds=5
"""
SEEDS = flags.DEFINE_string(
    'seeds', '5',
    'How many, from 0 on; or which, such as 3,5-9; seed 3 alone is 3-3.',
)
METHODS = flags.DEFINE_list(
    'methods', ['baseline', 'impactx', 'impactx_lambda0', 'impactx_shuffled'],
    'What is compared; NAME:N runs it with the first N seeds alone.',
)
REPORT_ONLY = flags.DEFINE_bool(
    'report_only', False, 'Write the table of what is complete; run nothing.'
)


def _compare(config, workdir: str) -> None:
  from impactx_jax.experiments import over_seeds

  plan = over_seeds.Plan.parse(SEEDS.value, METHODS.value)
  over_seeds.run(config, workdir, plan, report_only=REPORT_ONLY.value)


def run() -> None:
  """Entry point of the console script."""
  cli.run(
      _compare, USAGE, config_needed=True, listed=cli.list_methods
  )


if __name__ == '__main__':
  run()
