"""MobileNet on CIFAR-10, fine-tuned from ImageNet weights. Not measured.

  impactx --config=cifar10_mobilenet --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.model.pretrained=FILE

FILE is mobilenet_1_0_224_tf.h5 or mobilenet_1_0_224_tf_no_top.h5, which
keras.applications.MobileNet(weights='imagenet') downloads to ~/.keras/models;
--config.model.pretrained=random does without. Images are resized to 224 pixels
inside the model, as in the paper; meant for an accelerator. To try it on a
CPU: cifar10_mobilenet_cpu. The paper has 94.63 % for A and 96.27 % for IMPACTX.
"""

from impactx_jax.configs import common


def get_config():
  """Returns the recipe."""
  config = common.get_config()
  config.data.name = 'cifar10'
  config.model.name = 'mobilenet'
  config.model.input_size = 224
  config.model.dropout = 0.001
  config.model.dtype = 'bfloat16'
  for training in (config.classifier.training, config.method.training):
    training.batch_size = 128
    training.learning_rate = 3e-4
    training.warmup = 0.05
    training.epochs = 20
    training.flip = True
    training.crop_padding = 2
  return config
