"""What could make the explanation help, each against its own λ = 0.

  impactx-sweep --sweep=explanation --config=cifar10_lenet5 --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.method.decoder_filters=16 \
      --config.method.map_channels=1 --config.method.training.epochs=12

The weight of the explanation and the resolution of its maps; then LEP's start,
and what C sees of M. On CIFAR-10 none of it helped. Five fresh seeds, to
lambda = 0: cells with lambda = 20, -0.06 points [-0.47, +0.34] around
classifiers of their own, +0.15 [-0.04, +0.34] with the default decoder around
one; every pixel with lambda = 5, default decoder, -0.01 [-0.17, +0.16]. Nor did
it on shapes. docs/results has the numbers.
"""


def get_sweep():
  """Returns the stage that is trained, and the values of each field."""
  return {
      'stage': 'impactx',
      'grid': [
          {'method.lambda_': [0.0]},
          {'method.lambda_': [1.0, 5.0, 20.0], 'method.map_cell': [1, 4]},
          {
              'method.lep_init': ['from_classifier'],
              'method.lambda_': [0.0, 5.0],
              'method.map_cell': [4],
          },
          {
              'method.m_output': ['features'],
              'method.lambda_': [0.0, 5.0],
              'method.map_cell': [4],
          },
      ],
  }
