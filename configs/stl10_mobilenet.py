"""MobileNet on STL-10: 96x96 pixels, 5,000 images. Not measured.

  impactx --config=stl10_mobilenet --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.model.pretrained=FILE

For FILE see cifar10_mobilenet. The paper has 91.07 % for A and 95.79 % for
IMPACTX.
"""

from impactx_jax.configs import cifar10_mobilenet
from impactx_jax.configs import stl10_lenet5


def get_config():
  """Returns the recipe."""
  config = stl10_lenet5.on_stl10(cifar10_mobilenet.get_config())
  for training in (config.classifier.training, config.method.training):
    training.epochs = 40
  return config
