"""Does the explanation help where labels are few? Four settings of stage two.

  impactx-sweep --sweep=few_labels --config=cifar10_lenet5 --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.data.label_fraction=0.1 \
      --config.method.decoder_filters=16 --config.method.map_channels=1

Further, with maps of a classifier that was trained on all labels:
--config.classifier.workdir=DIR/shared --config.attribution.classifier=DIR2.
With 5 % of the labels of CIFAR-10 and lambda = 20, five seeds gave +0.68 points
[-1.06, +2.41] to lambda = 0, and 18 more -0.54 [-1.14, +0.06]; with 10 %, own
maps or a teacher's, nothing either. docs/results has the numbers.
"""


def get_sweep():
  """Returns the stage that is trained, and the values of each field."""
  return {
      'stage': 'impactx',
      'grid': [
          {'method.lambda_': [0.0]},
          {'method.lambda_': [5.0, 20.0], 'method.map_cell': [4]},
          {'method.lambda_': [20.0], 'method.map_cell': [1]},
      ],
  }
