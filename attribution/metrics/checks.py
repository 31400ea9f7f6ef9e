"""What all measures ask of their arrays."""

from attribution.errors import InputError
import numpy as np


def check_fit(**arrays: np.ndarray) -> None:
  """Raises InputError unless arrays are of the same images.

  Args:
    **arrays: By what they are called, [N, H, W, C], masks [N, H, W]; N, H and W
      must be the same for all, C need not.
  """
  shapes = {name: np.shape(array) for name, array in arrays.items()}
  wanted = {name: 3 if name == 'masks' else 4 for name in shapes}
  if any(len(shapes[name]) != wanted[name] for name in shapes) or (
      len({shape[:3] for shape in shapes.values()}) != 1
  ):
    given = ' and '.join(f'{name} {shape}' for name, shape in shapes.items())
    asked = ' and '.join(
        f'{name} [N, H, W{", C" if rank == 4 else ""}]'
        for name, rank in wanted.items()
    )
    raise InputError(
        f'These do not fit together: {given}. Give {asked}, of the same '
        'images and of their size.'
    )
