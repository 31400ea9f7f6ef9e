"""The attribution service alone: `python -m attribution.main`."""

from impactx_jax.commands import cli

USAGE = """
python -m attribution.main --config=NAME|FILE --workdir=DIR
    [--config.FIELD=VALUE …]

Restores the classifier of DIR (or of --config.attribution.classifier),
explains the training images and writes the maps as TFRecord shards to
DIR/maps. The same as impactx --stage=maps.
"""


def _make_maps(config, workdir: str) -> None:
  from impactx_jax import stages

  stages.run(config, workdir, 'maps')


def run() -> None:
  """Entry point: the maps stage alone."""
  cli.run(_make_maps, USAGE)


if __name__ == '__main__':
  run()
