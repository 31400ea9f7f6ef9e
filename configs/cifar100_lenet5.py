"""LeNet-5 on CIFAR-100, with the settings chosen on CIFAR-10. Not measured.

  impactx --config=configs/cifar100_lenet5.py --workdir=DIR \
      --config.data.data_dir=DATA_DIR
"""

from impactx_jax.configs import cifar10_lenet5


def get_config():
  """Returns the recipe."""
  config = cifar10_lenet5.get_config()
  config.data.name = 'cifar100'
  return config
