"""What D learns, and how large D is: scaling of the maps, channels of D.

  impactx-sweep --sweep=targets --config=cifar10_lenet5 --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.method.map_cell=4 \
      --config.method.training.epochs=12

Scaled by the standard deviation over all maps, the MSE of a map begins at about
1, so that lambda = 1 there is what 20 is for maps scaled each by its largest
magnitude. R2 is of the scaled maps, and so comparable within a scaling alone.
On CIFAR-10 the four trials are between 72.4 and 72.7 %, and lambda = 0 at 72.4.
"""


def get_sweep():
  """Returns the stage that is trained, and the values of each field."""
  return {
      'stage': 'impactx',
      'grid': [
          {
              'method.map_scaling': ['max_abs'],
              'method.lambda_': [20.0],
              'method.decoder_filters': [16, 64],
          },
          {
              'method.map_scaling': ['global_std'],
              'method.lambda_': [1.0],
              'method.decoder_filters': [16, 64],
          },
      ],
  }
