"""The command `impactx-explain`: class and map of pictures, in one pass."""

from absl import flags
from impactx_jax.commands import cli

USAGE = """
impactx-explain --workdir=DIR [--method=NAME] [--class=NAME] [--check]
                [--out=FOLDER] PICTURE.png …

Prints class, score and the five likeliest classes of each picture, and saves
FOLDER/PICTURE.explained.png with the map that the network predicts: one
forward pass, no explainer.

  impactx-explain --workdir=runs/quickstart picture.png
"""
METHOD = flags.DEFINE_string(
    'method', '', 'Of those trained in the workdir; the default is the one of '
    'its config.',
)
CLASS = flags.DEFINE_string(
    'class', '', 'Class that the maps are to be of, by name or number, instead '
    'of the predicted one; of a network that has a map for each.',
)
CHECK = flags.DEFINE_bool(
    'check', False, 'Whether each map is compared with a coarse one that is '
    'computed, and doubtful ones are named.',
)
OUT = flags.DEFINE_string('out', '.', 'Folder for the pictures with maps.')


def _explain(config, workdir: str, *paths: str) -> None:
  del config
  # pylint: disable=g-import-not-at-top
  from attribution.errors import InputError
  from etils import epath
  from impactx_jax import inference
  from impactx_jax.data import pictures
  from impactx_jax.report import panels
  from impactx_jax.report import console
  import numpy as np

  if not paths:
    raise InputError('Name the pictures to explain: impactx-explain … FILE.')
  model = inference.load(workdir, METHOD.value)
  # All are read first, so that a wrong one is noticed before any is written.
  images = np.stack([pictures.read(path, model.image_shape) for path in paths])
  wanted = CLASS.value
  if wanted.isdigit() and wanted not in model.class_names:
    wanted = int(wanted)
  try:
    explained = model.predict(
        images, None if wanted == '' else wanted, check=CHECK.value
    )
  except InputError as error:
    if wanted == '':
      raise
    if CHECK.value:
      cure = 'These are --class and --check.'
    elif model.has_map_of_each:
      cure = 'Change it with --class=NAME.'
    else:
      cure = 'Leave out --class.'
    raise InputError(f'{error} {cure}') from error
  out = epath.Path(OUT.value)
  if out.exists() and not out.is_dir():
    raise InputError(f'{out} is a file. Give a folder with --out=FOLDER.')
  out.mkdir(parents=True, exist_ok=True)
  names = _file_names(paths)
  for i, path in enumerate(paths):
    probabilities = explained.probabilities[i]
    top = np.argsort(-probabilities, kind='stable')[:5]
    rows = [
        [model.class_names[k], f'{100 * probabilities[k]:.1f}'] for k in top
    ]
    print(f'\n{path}\n\n' + console.table(['class', 'score %'], rows))
    if explained.attribution is not None:
      target = out / names[i]
      panels.draw_one(
          target,
          images[i] / np.float32(255),
          explained.attribution[i],
          title=_title(model.class_names, explained, i) + (
              '' if wanted == '' else f'; map of {_name(model, wanted)}'
          ),
      )
      print(f'\nMap: {target}')
      if explained.trusted is not None:
        print(_checked(model.guard, explained, i))
  if explained.attribution is None:
    print(f'\n{model.method} predicts no map.')
  else:
    r2 = 'not measured' if model.map_r2 is None else f'{model.map_r2:.3f}'
    print(f'\n{model.about_map}\nMap R2 on validation images: {r2}.')


def _name(model, wanted: int | str) -> str:
  """Returns a class's name, of its name or number."""
  return model.class_names[wanted] if isinstance(wanted, int) else wanted


def _checked(guard, explained, i: int) -> str:
  """Says whether a map is to be trusted, and by what."""
  far, limit = explained.disagreement[i], guard.threshold
  if explained.trusted[i]:
    return (
        f'Checked with {guard.evaluations} evaluations: the map is as near to '
        f'what they say as usual ({far:.2f}; up to {limit:.2f} is).'
    )
  return (
      f'DOUBTFUL: {guard.evaluations} evaluations say something else than '
      f'this map ({far:.2f}; {100 * guard.false_alarms:g} % of the validation '
      f'images are beyond {limit:.2f}).'
  )


def _title(class_names: tuple[str, ...], explained, i: int) -> str:
  """Says what is predicted: the class and its score, or several classes."""
  from impactx_jax.report import figures  # pylint: disable=g-import-not-at-top

  answer = explained.classes[i]
  text = figures.label_text(answer, class_names)
  if answer.ndim:
    return text
  return f'{text}: {100 * explained.probabilities[i, answer]:.1f} %'


def _file_names(paths: tuple[str, ...]) -> list[str]:
  """PICTURE.explained.png, numbered where two pictures have one name."""
  import pathlib  # pylint: disable=g-import-not-at-top

  stems = [pathlib.Path(path).stem for path in paths]
  return [
      f'{stem}.explained.png' if stems.count(stem) == 1
      else f'{stem}.{stems[: i + 1].count(stem)}.explained.png'
      for i, stem in enumerate(stems)
  ]


def run() -> None:
  """Entry point of the console script."""
  cli.run(_explain, USAGE, reads_data=False, positional='PICTURE')


if __name__ == '__main__':
  run()
