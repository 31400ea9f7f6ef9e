"""The command `impactx-front`: the best of many runs by several measures."""

from absl import flags
from attribution.errors import InputError
from impactx_jax.commands import cli

USAGE = """
impactx-front --workdir=DIR [--by=FIELD] [--data_dir=DATA_DIR]

Joins the fronts of the runs in a folder, such as a sweep of λ': the epochs that
no other one is better than on the validation images, by the measures that the
runs' training.front names. All that are left are tested. Writes
DIR/front.json and DIR/front.png.

  impactx-front --workdir=runs/sweep --by=method.guidance_loss
"""
BY = flags.DEFINE_string(
    'by', '', 'A field whose values have a front each, as a sweep names it.'
)
DATA_DIR = flags.DEFINE_string(
    'data_dir', '', 'Where the data are now, if they have moved.'
)


def _front(config, workdir: str) -> None:
  from impactx_jax.experiments import fronts

  if config is not None:
    raise InputError(
        'The runs in --workdir have configs of their own: leave out --config. '
        'Data that have moved are named with --data_dir=DIR.'
    )
  fronts.run(workdir, BY.value, DATA_DIR.value)


def run() -> None:
  """Entry point of the console script."""
  cli.run(_front, USAGE)


if __name__ == '__main__':
  run()
