"""A learned explainer of LeNet-5 on scikit-learn's digits, no download.

  impactx --config=configs/digits_explainer.py --workdir=DIR
"""

from impactx_jax.configs import common


def get_config():
  """Returns the recipe: A of the quickstart, and D that sees it."""
  config = common.get_config()
  config.attribution.max_evals = 500
  config.method.name = 'explainer'
  config.method.map_cell = 4
  config.method.map_channels = 1
  # So few images are not enough for a head a class; the gradient tells which.
  config.method.decoder_classes = 'one'
  config.method.training.batch_size = 16
  return config
