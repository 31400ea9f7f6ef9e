"""The command `impactx-sweep`: a grid of trials, judged by validation alone."""

from absl import flags
from attribution.errors import InputError
from impactx_jax.commands import cli

USAGE = """
impactx-sweep --sweep=NAME|FILE --config=NAME|FILE --workdir=DIR
    [--trials=N] [--jobs=N] [--config.FIELD=VALUE …]

Trains one trial for each point of a grid, or for N of them drawn at random, or
continues where it was interrupted. Writes a line for each trial to
DIR/trials.jsonl, the best by validation accuracy to DIR/best.json, and a
picture to DIR/trials.png. The test split is never looked at.

  impactx-sweep --sweep=lambda_ --config=quickstart --workdir=runs/sweep
"""
SWEEP = flags.DEFINE_string(
    'sweep', None, 'A file with get_sweep(), or the name of one of '
    'configs/sweeps.',
)
TRIALS = flags.DEFINE_integer('trials', 0, 'How many of the grid; 0: all.')
JOBS = flags.DEFINE_integer('jobs', 1, 'Trials at the same time.')


def _sweep(config, workdir: str) -> None:
  from impactx_jax.experiments import trials

  if not SWEEP.value:
    raise InputError('Say what to search with --sweep=NAME or --sweep=FILE.')
  trials.run(
      config, workdir, SWEEP.value, trials=TRIALS.value, jobs=JOBS.value
  )


def _installed() -> dict[str, list[str]]:
  from impactx_jax.experiments import grids

  return {'Installed sweeps': list(grids.installed())}


def run() -> None:
  """Entry point of the console script."""
  cli.run(_sweep, USAGE, config_needed=True, listed=_installed)


if __name__ == '__main__':
  run()
