"""MobileNet on a hundredth of CIFAR-10 at 64 pixels: to try it on a CPU.

  impactx --config=cifar10_mobilenet_cpu --workdir=DIR \
      --config.data.data_dir=DATA_DIR --config.model.pretrained=FILE

For FILE see cifar10_mobilenet. 500 labels, 250 evaluations an image.
"""

from impactx_jax.configs import cifar10_mobilenet


def get_config():
  """Returns the recipe."""
  config = cifar10_mobilenet.get_config()
  config.data.label_fraction = 0.01
  config.model.input_size = 64
  config.model.dtype = 'float32'
  for training in (config.classifier.training, config.method.training):
    training.batch_size = 32
  config.attribution.max_evals = 250
  config.evaluation.num_images = 16
  config.evaluation.close_images = 4
  config.evaluation.reference_evals = 1000
  config.evaluation.draws = 2
  return config
