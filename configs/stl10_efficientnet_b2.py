"""EfficientNet-B2 on STL-10: 96x96 pixels, 5,000 images. Not measured.

  impactx --config=stl10_efficientnet_b2 --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.model.pretrained=FILE

For FILE see cifar10_efficientnet_b2. The paper has
98.76 % for A and 99.00 % for IMPACTX.
"""

from impactx_jax.configs import cifar10_efficientnet_b2
from impactx_jax.configs import stl10_lenet5


def get_config():
  """Returns the recipe."""
  config = stl10_lenet5.on_stl10(cifar10_efficientnet_b2.get_config())
  for training in (config.classifier.training, config.method.training):
    training.epochs = 40
  return config
