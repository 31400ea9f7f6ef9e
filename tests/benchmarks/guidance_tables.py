"""What the benchmarks of guidance train after A: methods and fields."""

import functools
import itertools
from typing import Any

Run = tuple[str, dict[str, Any]]  # A method, and fields of its config.
BASELINE, CONTROL = 'A', 'λ = 0'
# Both what speaks for a class and what speaks against it, of the difference of
# the two logits: what a plain network cannot get around.
GUIDED = {
    'guidance_loss': 'energy', 'guidance_lambda': 40.0,
    'guidance_output': 'difference', 'guidance_sign': 'both',
}
# The best of `LEVERS`, chosen on seed 0 as well.
BEST = GUIDED | {'guidance_layer': 'mid', 'guidance_lambda': 4.0}
# λ' of each loss at each layer, of which one is chosen on seed 0.
LAMBDAS = {
    ('energy', 'input'): (4.0, 40.0, 400.0),
    ('energy', 'final'): (0.4, 4.0, 40.0, 400.0),
    ('l1', 'input'): (40.0, 400.0, 4000.0),
    ('l1', 'final'): (4.0, 40.0, 400.0, 4000.0),
    ('ppce', 'input'): (4.0, 40.0, 400.0),
    ('ppce', 'final'): (4.0, 40.0, 400.0, 4000.0),
    ('rrr', 'input'): (0.004, 0.04, 0.4, 4.0, 40.0),
    ('rrr', 'final'): (0.4, 4.0, 40.0, 400.0, 4000.0),
}
# By the accuracy on validation images with other surroundings.
CHOSEN = {
    ('energy', 'input'): 40.0, ('energy', 'final'): 4.0,
    ('l1', 'input'): 400.0, ('l1', 'final'): 40.0,
    ('ppce', 'input'): 40.0, ('ppce', 'final'): 400.0,
    ('rrr', 'input'): 0.04, ('rrr', 'final'): 400.0,
}


# A map of each kind of network that is made in one pass.
ATTRIBUTIONS = {
    'plain': 'input_x_gradient', 'x_dnn': 'integrated_gradients',
    'b_cos': 'b_cos',
}
# Where, of what, and of which sign a map is guided; the first as in the paper.
LEVERS = {
    'input, logit, positive': ('input', 'logit', 'positive'),
    'input, logit, both': ('input', 'logit', 'both'),
    'input, difference, positive': ('input', 'difference', 'positive'),
    'input, difference, both': ('input', 'difference', 'both'),
    'mid, difference, both': ('mid', 'difference', 'both'),
    'final, logit, positive': ('final', 'logit', 'positive'),
    'final, difference, both': ('final', 'difference', 'both'),
}
GRAD_CAM = 'final, Grad-CAM, positive'
# λ' of the energy, over three decades, of which one is chosen for each lever.
DECADES = (0.4, 4.0, 40.0, 400.0)
BOUND = 'other surroundings'


def few(share: float, guided: dict[str, Any]) -> dict[str, Any]:
  """Returns fields with a share of the boxes, which weigh as all together."""
  weight = guided['guidance_lambda'] / share
  return guided | {'mask_fraction': share, 'guidance_lambda': weight}


def effect() -> dict[str, Run]:
  """Guidance, its controls and its rival."""
  return {
      CONTROL: ('guided_lambda0', BEST),
      'guided': ('guided', BEST),
      "another image's boxes": ('guided_other_masks', BEST),
      'other surroundings': ('baseline_augmented', {}),
      'guided, 1 % of the boxes': ('guided', few(0.01, BEST)),
      "another image's boxes, 1 %": ('guided_other_masks', few(0.01, BEST)),
      'other surroundings, 1 %': (
          'baseline_augmented', {'mask_fraction': 0.01}
      ),
  }


def chosen(loss: str, layer: str) -> dict[str, Any]:
  """Returns the fields of a loss at a layer, with the λ' that was chosen."""
  return GUIDED | {
      'guidance_loss': loss, 'guidance_layer': layer,
      'guidance_lambda': CHOSEN[loss, layer],
  }


def lambdas() -> dict[str, Run]:
  """Each loss at each layer with several λ': of which one is chosen."""
  found = {CONTROL: ('guided_lambda0', GUIDED)}
  for (loss, layer), values in LAMBDAS.items():
    for value in values:
      fields = chosen(loss, layer) | {'guidance_lambda': value}
      found[f"{loss}, {layer}, λ' {value:g}"] = 'guided', fields
  return found


def losses() -> dict[str, Run]:
  """Each loss at each layer with all, a tenth and a hundredth of the boxes."""
  found = {CONTROL: ('guided_lambda0', GUIDED)}
  shares = (1.0, 0.1, 0.01)
  for share, (loss, layer) in itertools.product(shares, CHOSEN):
    fields = few(share, chosen(loss, layer))
    found[f'{loss}, {layer}, {share:.0%}'] = 'guided', fields
  return found


def controls() -> dict[str, Run]:
  """Boxes that know less, and what else the same boxes are good for."""
  found = {CONTROL: ('guided_lambda0', GUIDED), 'guided': ('guided', GUIDED)}
  kinds = {
      'other_masks': "another image's boxes", 'centre': 'a box in the middle',
      'random_box': 'a box anywhere', 'whole': 'the whole image',
  }
  found |= {
      title: (f'guided_{kind}', GUIDED) for kind, title in kinds.items()
  }
  found |= {
      'guided from the start': ('guided_from_scratch', GUIDED),
      'other surroundings': ('baseline_augmented', {}),
      'cropped to the box': ('baseline_cropped', {}),
  }
  # Every second image of an epoch has a box, and λ' is that of such an epoch.
  seen = {'mask_fraction': 0.01, 'mask_oversampling': 100.0}
  often = GUIDED | seen | {'guidance_lambda': 2 * GUIDED['guidance_lambda']}
  return found | {
      'guided, 1 %': ('guided', few(0.01, GUIDED)),
      "another image's boxes, 1 %": (
          'guided_other_masks', few(0.01, GUIDED)
      ),
      'guided, 1 % seen often': ('guided', often),
      "another image's boxes, 1 % seen often": ('guided_other_masks', often),
      'λ = 0, 1 % seen often': ('guided_lambda0', often),
      'other surroundings, 1 % seen often': ('baseline_augmented', seen),
      'cropped to the box, 1 % seen often': ('baseline_cropped', seen),
  }


def of_lever(variant: str, lever: str) -> dict[float, dict[str, Any]]:
  """Returns the fields of each λ' of a lever, for a kind of network."""
  if lever == GRAD_CAM:
    attribution, place = 'grad_cam', ('final', 'logit', 'positive')
  else:
    attribution, place = ATTRIBUTIONS[variant], LEVERS[lever]
  layer, output, sign = place
  return {
      value: {
          'guidance_loss': 'energy', 'guidance_lambda': value,
          'guidance_attribution': attribution, 'guidance_layer': layer,
          'guidance_output': output, 'guidance_sign': sign,
      }
      for value in DECADES
  }


def levers_of(variant: str) -> list[str]:
  """Returns the names of the levers that a kind of network has."""
  # The weights of Grad-CAM are of a network with activations to weigh.
  return [*LEVERS] + [GRAD_CAM] * (variant != 'b_cos')


def of_lambda(lever: str, value: float) -> str:
  """Names a lever with one λ'."""
  return f"{lever}, λ' {value:g}"


def levers(variant: str) -> dict[str, Run]:
  """Each lever with each λ' for a kind of network, and the bound to beat."""
  found = {CONTROL: ('guided_lambda0', {}), BOUND: ('baseline_augmented', {})}
  return found | {
      of_lambda(lever, value): ('guided', fields)
      for lever in levers_of(variant)
      for value, fields in of_lever(variant, lever).items()
  }


def shift() -> dict[str, Run]:
  """Each loss at each layer, the best lever, its control and its rival."""
  found = {CONTROL: ('guided_lambda0', BEST), 'energy, mid': ('guided', BEST)}
  found |= {
      f'{loss}, {layer}': ('guided', chosen(loss, layer))
      for loss, layer in CHOSEN
  }
  found |= {
      "energy, mid, another image's boxes": ('guided_other_masks', BEST),
      BOUND: ('baseline_augmented', {}),
  }
  l1 = chosen('l1', 'input')
  return found | {
      'energy, mid, 1 %': ('guided', few(0.01, BEST)),
      'l1, input, 1 %': ('guided', few(0.01, l1)),
      "energy, mid, another image's boxes, 1 %": (
          'guided_other_masks', few(0.01, BEST)
      ),
      f'{BOUND}, 1 %': ('baseline_augmented', {'mask_fraction': 0.01}),
  }


TABLES = {
    'effect': effect, 'lambdas': lambdas, 'losses': losses,
    'controls': controls, 'shift': shift,
} | {
    f'levers_{variant}': functools.partial(levers, variant)
    for variant in ATTRIBUTIONS
}
