"""Stage two's grid of the paper's table 1, with 0 and what lies beyond.

  impactx-sweep --sweep=lambda_ --config=cifar10_lenet5 --workdir=DIR \
      --config.data.data_dir=DATA_DIR

All trials share one classifier and its maps, in DIR/shared, or those of
--config.classifier.workdir and --config.attribution.workdir.
"""


def get_sweep():
  """Returns the stage that is trained, and the values of each field."""
  paper = [0.2, 0.4, 0.6, 0.8, 1.0, 1.2, 1.4]
  return {
      'stage': 'impactx',
      'grid': {'method.lambda_': [0.0, *paper, 5.0, 20.0]},
  }
