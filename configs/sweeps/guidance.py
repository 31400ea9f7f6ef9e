"""The four losses of guidance, each with three weights, from small to large.

  impactx-sweep --sweep=guidance --config=shapes_guided --workdir=DIR
  impactx-front --workdir=DIR --by=method.guidance_loss

All trials share one classifier, in DIR/shared. The weights are those of the
paper's code and of a reproduction of it, as means over a batch and, of rrr, for
images of 32 pixels.
"""


def get_sweep():
  """Returns the stage that is trained, and the values of each field."""
  weights = {
      'energy': [0.03, 0.06, 0.3], 'l1': [0.3, 0.6, 1.0],
      'ppce': [0.03, 0.06, 0.3], 'rrr': [0.03, 0.1, 0.3],
  }
  return {
      'stage': 'impactx',
      'grid': [
          {
              'method.guidance_loss': [loss],
              'method.guidance_lambda': values,
          }
          for loss, values in weights.items()
      ],
  }
