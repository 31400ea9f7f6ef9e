"""A learned explainer of LeNet-5 on scikit-learn's digits, no download.

  impactx --config=configs/digits_explainer.py --workdir=DIR

One core of an AMD EPYC, 2026-11-21, one seed: R2 0.680 of the validation
images' maps after 2 minutes, and 31 seconds for the maps before
(docs/results/learned_explainer.md).
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
