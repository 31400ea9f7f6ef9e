"""The command `impactx`: trains, explains and evaluates."""

from absl import flags
from impactx_jax.commands import cli

USAGE = """
impactx --config=NAME|FILE --workdir=DIR [--stage=STAGE]
    [--config.FIELD=VALUE …]

Two-stage IMPACTX: trains a classifier, explains its training images, trains a
second branch that predicts the explanations while it helps to classify, and
evaluates both. Stages that are complete are skipped; a run that was killed
continues where it was.

  impactx --config=quickstart --workdir=runs/quickstart
  impactx --workdir=runs/quickstart --stage=evaluate
"""
STAGE = flags.DEFINE_string(
    'stage', 'all',
    'classifier, maps, impactx (trains config.method.name), evaluate, or all.',
)


def _run_stages(config, workdir: str) -> None:
  from impactx_jax import stages

  stages.run(config, workdir, STAGE.value)


def run() -> None:
  """Entry point of the console script."""
  cli.run(_run_stages, USAGE, listed=cli.list_methods)


if __name__ == '__main__':
  run()
