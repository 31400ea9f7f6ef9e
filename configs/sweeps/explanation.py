"""What could make the explanation help, each against its own λ = 0.

  impactx-sweep --sweep=explanation --config=cifar10_lenet5 --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.method.decoder_filters=16 \
      --config.method.map_channels=1 --config.method.training.epochs=12

The weight of the explanation and the resolution of its maps; then LEP's start,
and what C sees of M. On CIFAR-10 none of it helped; five seeds of the best
setting with cells gave -0.06 points to lambda = 0, between -0.47 and +0.34. Nor
did it on shapes. The README has the numbers.
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
