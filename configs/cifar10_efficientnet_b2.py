"""EfficientNet-B2 on CIFAR-10, from Noisy Student weights. Not measured.

  impactx --config=cifar10_efficientnet_b2 --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.model.pretrained=FILE

FILE is the checkpoint in noisy_student_efficientnet-b2.tar.gz of the TensorFlow
TPU models (its prefix), an h5 made of it, or model.safetensors of
timm/tf_efficientnet_b2.ns_jft_in1k; --config.model.pretrained=random does
without. Images are resized to 260 pixels inside the model; meant for an
accelerator. The paper has 98.06 % for A and 98.38 % for IMPACTX.
"""

from impactx_jax.configs import cifar10_mobilenet


def get_config():
  """Returns the recipe."""
  config = cifar10_mobilenet.get_config()
  config.model.name = 'efficientnet_b2'
  config.model.input_size = 260
  config.model.dropout = 0.3
  config.model.drop_path = 0.2
  for training in (config.classifier.training, config.method.training):
    training.batch_size = 64
  return config
