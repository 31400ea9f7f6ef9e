"""LeNet-5 on STL-10: 96x96 pixels, 5,000 training images. Not measured.

  impactx --config=configs/stl10_lenet5.py --workdir=DIR \
      --config.data.data_dir=DATA_DIR

The blur is 48 pixels wide (half the side) and the decoder starts at 12x12
with a third block, as in the paper's section 4.3.
"""

from impactx_jax.configs import cifar10_lenet5


def get_config():
  """Returns the recipe."""
  return on_stl10(cifar10_lenet5.get_config())


def on_stl10(config):
  """Returns a recipe for CIFAR-10, changed to one for STL-10."""
  config.data.name = 'stl10'
  config.method.decoder_start = 12
  config.evaluation.region = 8
  for training in (config.classifier.training, config.method.training):
    training.crop_padding = 8
  return config
