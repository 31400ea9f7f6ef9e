"""What a model of another framework needs, in a sentence."""

from typing import Any

from attribution.errors import InputError

CALLBACK = (
    'Anything that computes outside of JAX goes through jax.pure_callback, for '
    'explainers without gradients'
)
# The module of a class that an object is of -> how it becomes a function.
OBJECTS = {
    'torch.nn.modules.module': (
        'a PyTorch module. Make a JAX function of it: torchax.extract_jax('
        f'model), with channels_first=True. {CALLBACK}.'
    ),
    'keras.src.backend.tensorflow.layer': (
        "a Keras model on TensorFlow. Set KERAS_BACKEND='jax' before Keras is "
        'imported, or wrap it: jax2tf.call_tf(model).'
    ),
    'keras.src.backend.torch.layer': (
        "a Keras model on PyTorch. Set KERAS_BACKEND='jax' before Keras is "
        'imported.'
    ),
    'tensorflow.python.eager.polymorphic_function.polymorphic_function': (
        'a TensorFlow function. Wrap it: jax2tf.call_tf(function).'
    ),
    'tensorflow.python.module.module': (
        'a TensorFlow module. Wrap it: jax2tf.call_tf(module).'
    ),
    'flax.linen.module': (
        'a Flax Linen module, which has no weights of its own. Give variables='
        'its weights, and as the function lambda variables, images: '
        'module.apply(variables, images).'
    ),
}
# What an error is called, or says -> what mends it.
CURES = {
    'TraceContextError': (
        'A Flax NNX model that is training writes its statistics while it is '
        'traced: call model.eval() first.'
    ),
    'TracerArrayConversionError': (
        'It computes with NumPy or with another framework. Of Keras take the '
        'JAX backend and model(images, training=False), not model.predict; of '
        f'TensorFlow jax2tf.call_tf(function). {CALLBACK}.'
    ),
    'TracerBoolConversionError': (
        'It decides by the value of a pixel or of a score, which is not known '
        'while it is compiled: use jnp.where.'
    ),
    'missing 1 required positional argument': (
        'A function of (variables, images) is given the weights as variables=.'
    ),
    'needs to have rank 3': (
        'An Equinox module takes one image, channels first: give '
        'jax.vmap(model), with channels_first=True.'
    ),
    'feature dimension size': (
        'If the model takes images [B, C, H, W], give channels_first=True and '
        'images [N, C, H, W].'
    ),
}


def check(score_fn: Any) -> None:
  """Raises InputError for what is no function of JAX, and says how to make one.

  Nothing is imported for it.

  Args:
    score_fn: What was given as a scoring function.
  """
  for base in type(score_fn).__mro__:
    if said := OBJECTS.get(base.__module__):
      raise InputError(f'The scoring function is {said}')
  if not callable(score_fn):
    raise InputError(
        f'The scoring function is {type(score_fn).__name__}, which cannot be '
        'called: give a function from images to scores.'
    )


def untraceable(
    shape: tuple[int, int, int],
    error: Exception,
    given: frozenset[str] = frozenset(),
) -> InputError:
  """Returns the error for a scoring function that JAX cannot trace.

  Args:
    shape: H, W, C of the images.
    error: That it raised.
    given: Options that are set, which no cure need advise.
  """
  said = str(error).strip().split('\n')[0].rstrip('.')
  said = f'{type(error).__name__}: {said}'
  text = f'{type(error).__name__}: {error}'
  cures = [
      cure for sign, cure in CURES.items()
      if sign in text and not any(f'{option}=' in cure for option in given)
  ]
  cure = cures[0] if cures else (
      'It must be a pure function that computes with jax.numpy, of images '
      'float32 [B, H, W, C], after the variables where variables are given, to '
      f'scores [B, K], for any B and images of the shape {shape}.'
  )
  return InputError(f'JAX cannot trace the scoring function: {said}. {cure}')
