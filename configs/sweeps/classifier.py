"""Stage one's grid of the paper's table 1: 180 trials.

  impactx-sweep --sweep=classifier --config=cifar10_lenet5 --workdir=DIR \
      --trials=20 --config.data.data_dir=DATA_DIR

--trials draws so many of them at random; 0 runs all. The fewer images are held
out for validation, the more the accuracy on them owes to chance, and the best
of many trials most of all: compare within a validation_fraction.
"""


def get_sweep():
  """Returns the stage that is trained, and the values of each field."""
  return {
      'stage': 'classifier',
      'grid': {
          'classifier.training.batch_size': [16, 32, 64],
          # 0.0001 to 0.0096 in steps of 0.0005; the paper's range ends at 0.01.
          'classifier.training.learning_rate': [
              round(1e-4 + 5e-4 * i, 4) for i in range(20)
          ],
          'data.validation_fraction': [0.05, 0.1, 0.2],
      },
  }
