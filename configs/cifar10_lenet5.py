"""LeNet-5 on CIFAR-10."""

from impactx_jax.configs import common


def get_config():
  """Returns the recipe."""
  config = common.get_config()
  config.data.name = 'cifar10'
  return config
