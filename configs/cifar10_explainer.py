"""A learned explainer of LeNet-5 on CIFAR-10: maps of A in one pass.

  impactx --config=configs/cifar10_explainer.py --workdir=DIR \
      --config.data.data_dir=DATA_DIR

D learns from A's maps of the training images (500 evaluations each, averaged
over cells of 4x4 pixels) and sees A's features and the gradient at four points
between the hidden image and this one. The class is A's own.

One core of an AMD EPYC with other work beside it, 2026-11-21, one seed: R2
0.501 of the validation images' maps after 24 minutes; the maps take 23 before
(docs/results/learned_explainer.md).
"""

from impactx_jax.configs import cifar10_lenet5


def get_config():
  """Returns the recipe: A as in cifar10_lenet5."""
  config = cifar10_lenet5.get_config()
  config.attribution.max_evals = 500
  config.method.name = 'explainer'
  config.method.map_cell = 4
  config.method.map_channels = 1
  # Between the hidden image and this one, as Integrated Gradients.
  config.method.gradient_points = 4
  training = config.method.training
  training.batch_size = 128
  training.learning_rate = 0.002
  training.epochs = 12
  # A mirrored picture has not the mirrored map: A does not see it so.
  training.flip = False
  training.crop_padding = 0
  return config
