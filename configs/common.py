"""Every field of a config, its default, and what it means.

Recipes start from `get_config()` and change fields. On the command line any
field is set by `--config.section.field=value`.
"""

from impactx_jax import methods
from impactx_jax import user_files
from ml_collections import ConfigDict


def _training() -> ConfigDict:
  """The fields of one training run; both stages have their own."""
  config = ConfigDict()
  # Passes over the training split, at most.
  config.epochs = 60
  # Examples a step, over all devices together.
  config.batch_size = 64
  # Of Adam, at the start.
  config.learning_rate = 0.001
  # 'constant', or 'cosine' down to 0 at the last epoch.
  config.schedule = 'cosine'
  # Share of the steps in which the learning rate rises to that, from 0.
  config.warmup = 0.0
  # Which epoch is kept: the 'last', or 'max' or 'min' and a measure of the
  # validation split: 'accuracy', 'cross_entropy', 'f1' of several labels,
  # 'map_mse', 'map_r2', of guided networks 'guided_epg' and 'guided_iou'.
  config.select = 'last'
  # By which measures epochs are kept that no other one is better than, such as
  # 'max accuracy, max guided_epg' of a guided network; all of them are tested.
  # What differs by less than 0.005 is alike. '': none.
  config.front = ''
  # Epochs without a better one, by that measure, before stopping; 0: never.
  # Under a cosine that is to stop while the learning rate is high.
  config.patience = 0
  # Mirror left and right at random, the map with the image.
  config.flip = False
  # Shift by up to so many pixels at random, the map with the image.
  config.crop_padding = 0
  return config


def get_config(method: str = '') -> ConfigDict:
  """Returns the defaults: two-stage IMPACTX with LeNet-5 on `digits`.

  Args:
    method: A file of the user's own with a METHOD whose options are added.
  """
  config = ConfigDict()
  # Of every random number: splits, order, initialisation, augmentation.
  config.seed = 0

  config.data = ConfigDict()
  # 'digits', 'shapes' or 'shapes/CONFIG', 'ground/CONFIG', 'mosaic/SOURCE',
  # 'image_folder', or any image-classification data set of
  # tensorflow-datasets, 'voc/2007' and 'coco/2014' among them; or a file
  # FILE.py of yours that defines BUILDER, one for tensorflow-datasets.
  config.data.name = 'digits'
  # Where TFDS keeps its data sets ('': ~/tensorflow_datasets), or, for
  # image_folder, the folder of pictures. Not part of what a run is: the data
  # may move.
  config.data.data_dir = ''
  # 'classification' (one label an image, softmax), 'one_versus_rest' (one
  # label, a sigmoid for each class) or 'multi_label' (any number of them); '':
  # the first of these that the data set has columns for.
  config.data.task = ''
  # Whether TFDS may download a data set that is not prepared.
  config.data.download = False
  config.data.train_split = 'train'
  config.data.test_split = 'test'
  # Share of the training split held out for validation (paper: Table 1).
  config.data.validation_fraction = 0.1
  # Share of the labels of the training split, validation included, that is
  # used; as large a share of each class. What is used at 0.1 is used at 0.2.
  config.data.label_fraction = 1.0
  # Share of a folder's training pictures that become the test split where the
  # folder has none.
  config.data.test_fraction = 0.2
  # (height, width) of pictures that come in many sizes; a data set of one
  # size keeps it.
  config.data.image_size = (32, 32)

  config.model = ConfigDict()
  # Backbone of A, and of LEP: 'lenet5', 'resnet20', 'mobilenet',
  # 'efficientnet_b2', or a file FILE.py of yours that defines BACKBONE, an
  # impactx_jax.models.Backbone.
  config.model.name = 'lenet5'
  # Of 'lenet5' and 'resnet20': 'plain'; 'x_dnn', without biases and
  # normalisation, whose Input×Gradient is its Integrated Gradients from black;
  # or 'b_cos', whose maps are a linear map of the image (explainer 'b_cos').
  config.model.variant = 'plain'
  # B of b_cos: how much each unit favours inputs that its weight points to.
  config.model.b_cos_exponent = 2.0
  # File of published weights that A, and LEP, start from: an h5 of Keras,
  # safetensors of timm, or the prefix of a TensorFlow checkpoint; 'random' to
  # do without, which '' means where no weights are published.
  config.model.pretrained = ''
  # Whether the last layer is taken too, for data with the very classes that
  # the weights are of.
  config.model.pretrained_head = False
  # Multiplies the channels of every layer.
  config.model.width = 1.0
  # Side in pixels that images are resized to inside the model; 0: none.
  config.model.input_size = 0
  # Share of the features that the head drops in training; of the blocks that
  # an EfficientNet skips, at its end.
  config.model.dropout = 0.0
  config.model.drop_path = 0.0
  # Of LeNet-5: 'relu', 'tanh' or 'sigmoid'.
  config.model.activation = 'relu'
  # Of LeNet-5: 'max' or 'mean'; b_cos, of any backbone, takes 'mean' alone.
  config.model.pooling = 'max'
  # Of the computation: 'float32' or 'bfloat16'. Parameters are float32.
  config.model.dtype = 'float32'

  config.classifier = ConfigDict()
  # Workdir whose classifier is A, instead of one trained here, or in one the
  # folder of a method that is such a network, DIR/guided; the split into
  # training and validation is then that of its seed. '': this one's.
  config.classifier.workdir = ''
  # Stage one, and the methods that train their classifier from the start:
  # 'baseline_matched', 'impactx_single_stage', 'abn'.
  config.classifier.training = _training()

  config.attribution = ConfigDict()
  # How maps are made, a name in attribution.explainers.EXPLAINERS: 'partition'
  # (shap's values, on the device), 'partition_grid' (exact on a grid),
  # 'shap_partition' (the shap library; needed for the inpainting maskers), of
  # the cells of a grid 'kernel_shap', 'permutation_shap', 'occlusion' and
  # 'rise', 'grad_cam', 'input_x_gradient', 'integrated_gradients',
  # 'expected_gradients', 'smooth_grad', of logits 'lrp_epsilon' and
  # 'lrp_alpha1_beta0', of a B-cos network 'b_cos', or what knows nothing of the
  # model, 'random', 'edges' and 'disc'; or a file FILE.py of yours that defines
  # EXPLAINER, a factory as in attribution.explainers.
  config.attribution.explainer = 'partition'
  # What stands in for hidden pixels: 'blur', 'mean' (of the training images),
  # 'constant', 'inpaint_telea' or 'inpaint_ns'.
  config.attribution.masker = 'blur'
  # Side of the blur in pixels; 0: half the image's side.
  config.attribution.blur_kernel = 0
  # Colour of the constant masker, in [0, 1].
  config.attribution.mask_value = 0.0
  # Model evaluations an image (paper: 2000).
  config.attribution.max_evals = 2000
  # Evaluations between two looks at the explainer's queue. It is part of the
  # result; 2 to 50 agree with each other, and 50 is the fastest for shap.
  config.attribution.batch_size = 50
  # Images explained together on each device; 0: as many as fit well.
  config.attribution.images_per_step = 0
  # Points on the way, for integrated_gradients; draws, for smooth_grad and
  # expected_gradients.
  config.attribution.integration_steps = 32
  # Cells along a side, for what has a grid; of partition_grid a power of two.
  config.attribution.grid = 8
  # What is explained: the softmax 'probability' of the class or its 'logit'.
  config.attribution.explained_output = 'probability'
  # Images that get a map; 0: all of the training split.
  config.attribution.num_examples = 0
  # Classes an image whose maps are made, for the method explainer: the true
  # one, and others drawn by the image's id. partition explains all at the price
  # of one.
  config.attribution.classes_per_image = 1
  # Maps in one shard, which is what a killed run may lose.
  config.attribution.shard_size = 256
  # Workdir whose classifier is explained, of any backbone, or the folder of a
  # method in one, such as DIR/guided; '': A itself.
  config.attribution.classifier = ''
  # Workdir whose maps are taken, instead of making them here; '': this one's.
  config.attribution.workdir = ''

  # The options of all methods, which each declares in its own file; beside
  # impactx_jax/methods/impactx.py, where most of them are explained, those of
  # impactx_single_stage.py.
  config.method = ConfigDict(methods.options())
  # What stage two trains, a name in impactx_jax.methods.METHODS, or a file
  # FILE.py of yours that defines METHOD, an impactx_jax.methods.Spec.
  config.method.name = 'impactx'
  # Stage two, around a frozen A: 'impactx' and its controls, 'wae'.
  config.method.training = _training()

  if method:
    set_method(config, method)

  config.evaluation = ConfigDict()
  # Examples a forward pass.
  config.evaluation.batch_size = 256
  # Test images whose maps are measured.
  config.evaluation.num_images = 64
  # Explainers that the method's own map is compared with, beside
  # attribution.explainer.
  config.evaluation.explainers = (
      'grad_cam', 'input_x_gradient', 'integrated_gradients', 'random', 'edges',
      'disc',
  )
  # Of these images, those whose maps are made anew: with small noise, with
  # random parameters, and with so many evaluations.
  config.evaluation.close_images = 16
  config.evaluation.reference_evals = 8000
  # Workdir of the same run with another seed, whose maps are compared as well;
  # '': none.
  config.evaluation.other = ''
  # Standard deviation of that noise; pixels are in [0, 1].
  config.evaluation.noise = 0.02
  # The guard of predicted maps: cells a side of the map that it computes for a
  # check (4: 172 evaluations), validation images that it is calibrated on, and
  # the share of them that may raise an alarm.
  config.evaluation.guard_grid = 4
  config.evaluation.guard_images = 500
  config.evaluation.guard_false_alarms = 0.05
  # Images shown in panels.png.
  config.evaluation.num_panels = 8
  # Side of the square regions that are perturbed; 0: an eighth of the side.
  config.evaluation.region = 0
  # Draws of the noise that replaces regions.
  config.evaluation.draws = 10
  return config


def set_method(config: ConfigDict, name: str) -> None:
  """Chooses a method, and gives `config.method` the options it declares.

  Those that only the file of the method before declared go.

  Args:
    config: To be changed.
    name: A name, or a file.
  """
  before, declared = config.method.name, methods.options_of(name)
  gone = methods.options_of(before) if user_files.is_file(before) else {}
  with config.unlocked():
    config.method.name = name
    for option in gone.keys() - methods.options().keys() - declared.keys():
      if option in config.method:
        del config.method[option]
    for option, default in declared.items():
      if option not in config.method:
        config.method[option] = default
