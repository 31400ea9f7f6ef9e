"""The front of many runs: chosen on validation, and all that is left tested.

  DIR/front.json   the networks that no other one is better than
  DIR/front.png    where they are on the test split

Runs with the same validation images make one front together, whatever their λ'.
Others have one of their own, each method has, and, where it is asked, each
value of a field.
"""

import collections
from collections.abc import Sequence
import json
from typing import Any, NamedTuple

from absl import logging
from attribution import files
from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
from impactx_jax import methods
from impactx_jax import user_files
from impactx_jax.experiments.trials import as_label
from impactx_jax.report import console
from impactx_jax.report import figures
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import evaluate
from impactx_jax.stages import runs as run_lib
from impactx_jax.training import history
from ml_collections import ConfigDict


class Member(NamedTuple):
  """A run with a front.

  Attributes:
    directory: Of the trained network.
    name: Of its method; the baseline for A.
    run: Of its workdir.
    summary: Of its training.
  """

  directory: epath.Path
  name: str
  run: run_lib.Run
  summary: dict[str, Any]

  @property
  def config(self) -> ConfigDict:
    """Of the network."""
    return self.run.trained(self.name).config

  @property
  def front(self) -> str:
    """What it was kept for."""
    return self.config[methods.find(self.name).section].training.front


def run(workdir: epath.PathLike, by: str = '', data_dir: str = '') -> None:
  """Joins the fronts of the runs in a folder, and tests what is left.

  Args:
    workdir: Of a run, a table or a sweep whose `training.front` was set, or of
      one trained network.
    by: A field such as 'method.guidance_loss', whose values have a front each.
    data_dir: Where the data are now; '' for where they were.

  Raises:
    InputError: if there is none, their fronts are of other measures, or a
      config has no such field.
  """
  root = artefact.open_workdir(workdir)
  members = _members(root, data_dir)
  if not members:
    raise InputError(
        f'{root} has no run with a front. Train one with '
        "--config.method.training.front='max accuracy, max guided_epg'."
    )
  asked = {member.front for member in members}
  if len(asked) > 1:
    raise InputError(
        f'The runs in {root} have fronts of other measures: '
        f'{"; ".join(sorted(asked))}. Give a folder of runs with one.'
    )
  selects = history.parse_front(asked.pop(), 'training.front')
  groups = collections.defaultdict(list)
  for member in members:
    title = user_files.stem(member.name)
    title = title if not by else f'{title}, {_field(member.config, by)}'
    # Whose validation images are the same.
    split = member.run.seed, member.config.data.validation_fraction
    data = json.dumps(member.summary['data'], sort_keys=True)
    groups[title, split, data].append(member)
  fronts = collections.defaultdict(list)
  for (title, *_), group in groups.items():
    fronts[title] += _tested(root, group, selects)
  files.write_json(root / 'front.json', dict(fronts))
  figures.save(root / 'front.png', figures.front(fronts))
  header, rows = console.front(fronts)
  points = [point for of_one in fronts.values() for point in of_one]
  rows = [
      [row[0], point['seed'], point['fields'], *row[1:]]
      for row, point in zip(rows, points, strict=True)
  ]
  print('\n' + console.table([header[0], 'seed', 'fields', *header[1:]], rows))
  print(f'\nTest (validation). Front: {root}/front.json, front.png')


def _members(root: epath.Path, data_dir: str) -> list[Member]:
  """Returns the runs with a front in a folder."""
  # The network itself; those of a run, of a table's seeds, of a sweep's trials.
  depths = ('', '*/', '*/*/', '*/*/*/')
  found = []
  for path in sorted(
      path for depth in depths for path in root.glob(depth + artefact.SUMMARY)
  ):
    summary = configs.read_json(path)
    if summary.get('front'):
      directory = path.parent
      config = configs.read(directory)
      if data_dir:
        with config.unlocked():
          config.data.data_dir = data_dir
      name = config.method.name
      if directory.name == artefact.CLASSIFIER:
        name = methods.BASELINE
      try:
        one = run_lib.resolve(config, directory.parent)
      except InputError as error:  # Such as what it was made from being gone.
        logging.warning('%s is left out: %s', directory, error)
        continue
      found.append(Member(directory, name, one, summary))
  return found


def _tested(
    root: epath.Path, members: list[Member], selects: Sequence[history.Select]
) -> list[dict[str, Any]]:
  """Returns the joint front of runs with the same validation images, tested.

  Args:
    root: The folder of all.
    members: The runs.
    selects: By which measures.
  """
  points = [
      (member, point) for member in members for point in member.summary['front']
  ]
  kept = history.front([point for _, point in points], selects)
  fields = dict(zip(
      [member.directory for member in members],
      _differing([member.config.to_dict() for member in members]), strict=True,
  ))
  found = []
  for member, point in (points[place] for place in kept):
    tested = evaluate.of_front(member.run, member.name, point)
    found.append(tested | {
        'run': str(member.directory.relative_to(root)),
        'seed': member.config.seed,
        'fields': as_label(fields[member.directory]),
    })
  return found


def _field(config: ConfigDict, by: str) -> Any:
  """Returns the value of a field, named as in a sweep."""
  found = dict(_leaves('', config.to_dict()))
  if by not in found:
    raise unknown_choice('field', by, found, '--by')
  return found[by]


def _differing(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Returns the fields in which configs differ, of each."""
  flat = [dict(_leaves('', config)) for config in found]
  names = [
      name for name in flat[0]
      if any(other.get(name) != flat[0][name] for other in flat[1:])
  ]
  return [
      {name.rpartition('.')[2]: one.get(name) for name in names}
      for one in flat
  ]


def _leaves(path: str, content: Any):
  if not isinstance(content, dict):
    return [(path, content)]
  return [
      leaf for name, part in content.items()
      for leaf in _leaves(f'{path}.{name}' if path else name, part)
  ]
