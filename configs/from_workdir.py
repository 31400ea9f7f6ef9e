"""The config of an earlier run, for another one with a few changes.

  impactx --config=from_workdir:DIR --workdir=ANOTHER --config.FIELD=VALUE

Without --config, fields are changed of the config of --workdir itself.
"""

from attribution.errors import InputError
from impactx_jax.stages import artefact
from impactx_jax.stages import configs


def get_config(workdir=''):
  """Returns the config that was run last in a workdir."""
  if not workdir:
    raise InputError('Say of which workdir: --config=from_workdir:DIR.')
  return configs.read(artefact.open_workdir(workdir))
