"""LeNet-5 on your own pictures.

  impactx --config=configs/image_folder.py --workdir=DIR \
      --config.data.data_dir=FOLDER

FOLDER/train/CLASS/PICTURE.png and FOLDER/test/CLASS/…, png or jpeg of any
size; they are resized to config.data.image_size. Without FOLDER/test a share
of the training pictures, chosen by file name, becomes the test split.
"""

from impactx_jax.configs import common


def get_config():
  """Returns the recipe."""
  config = common.get_config()
  config.data.name = 'image_folder'
  config.data.image_size = (64, 64)
  for training in (config.classifier.training, config.method.training):
    training.flip = True
    training.crop_padding = 4
  return config
