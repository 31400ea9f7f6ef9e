"""The attribution service alone: `python -m attribution.main`."""

from impactx_jax import cli

USAGE = """
python -m attribution.main --config=NAME|FILE --workdir=DIR [--config.FIELD=VALUE …]

Restores the classifier of DIR (or of --config.attribution.classifier),
explains the training images and writes the maps as TFRecord shards to
DIR/maps. The same as impactx --stage=maps.
"""


def main() -> None:
  # pylint: disable=g-import-not-at-top
  from impactx_jax import parallel

  if cli.DISTRIBUTED.value:
    parallel.initialize_distributed()
  from impactx_jax import pipeline

  pipeline.run(cli.CONFIG.value, cli.WORKDIR.value, 'maps')


def run() -> None:
  cli.run(main, USAGE)


if __name__ == '__main__':
  run()
