"""A recipe with another method, and the options that this method declares.

  impactx --config=RECIPE --workdir=DIR --config.method.name=FILE.py \
      --config.method.OPTION=VALUE

comes here by itself: the options that FILE.py declares must be in the config
before the command line can change them.
"""

from attribution.errors import InputError
from impactx_jax import user_files
from impactx_jax.configs import common
from ml_collections import ConfigDict


def get_config(files: str = '') -> ConfigDict:
  """Returns the recipe of 'METHOD.py|RECIPE.py', or '…|RECIPE.py:PARAMETER'."""
  method, bar, recipe = files.partition('|')
  if not bar:
    raise InputError('Give the method with --config.method.name=NAME.')
  path, colon, parameter = recipe.partition(':')
  config = user_files.module(path).get_config(*([parameter] if colon else []))
  common.set_method(config, method)
  return config
