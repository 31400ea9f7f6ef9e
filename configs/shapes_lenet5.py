"""LeNet-5 on `shapes`: procedural pictures with exact object masks.

  impactx --config=configs/shapes_lenet5.py --workdir=DIR

Other difficulties, with or without a spurious cue in the background:
--config.data.name=shapes/easy, medium, hard, small (anywhere in the picture),
easy_cue, medium_cue, hard_cue, small_cue.
"""

from impactx_jax.configs import common


def get_config():
  """Returns the recipe."""
  config = common.get_config()
  config.data.name = 'shapes/easy'
  config.attribution.max_evals = 500
  return config
