"""The front of many runs: chosen on validation, and all that is left tested.

  DIR/front.json   the networks that no other one is better than
  DIR/front.png    where they are on the test split

Runs of one seed share their validation images, and make one front together,
whatever their λ'. Each seed has a front of its own, each method, and, where it
is asked, each value of a field.
"""

import collections
from typing import Any

from attribution import files
from attribution.errors import InputError
from attribution.errors import unknown_choice
from etils import epath
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


def run(workdir: epath.PathLike, by: str = '') -> None:
  """Joins the fronts of the runs in a folder, and tests what is left.

  Args:
    workdir: Of a run, a table or a sweep whose `training.front` was set.
    by: A field such as 'method.guidance_loss', whose values have a front each.

  Raises:
    InputError: if there is none, their fronts are of other measures, or a
      config has no such field.
  """
  root = artefact.open_workdir(workdir)
  groups = collections.defaultdict(list)
  # Of a run, a table's seeds, a sweep's trials.
  depths = ('*', '*/*', '*/*/*')
  for path in sorted(
      path for depth in depths for path in root.glob(
          f'{depth}/{artefact.SUMMARY}'
      )
  ):
    summary = configs.read_json(path)
    if summary.get('front'):
      config = configs.read(path.parent)
      name = user_files.stem(config.method.name)
      title = name if not by else f'{name}, {_field(config, by)}'
      groups[title, config.seed].append((path.parent, config, summary))
  if not groups:
    raise InputError(
        f'{root} has no run with a front. Train one with '
        "--config.method.training.front='max accuracy, max epg'."
    )
  fronts = collections.defaultdict(list)
  for (title, seed), members in groups.items():
    fronts[title] += [
        point | {'seed': seed} for point in _tested(root, members)
    ]
  files.write_json(root / 'front.json', dict(fronts))
  figures.save(root / 'front.png', figures.front(fronts))
  header, rows = console.front(fronts)
  points = [point for of_one in fronts.values() for point in of_one]
  rows = [
      [row[0], point['seed'], point['fields'], *row[1:]]
      for row, point in zip(rows, points, strict=True)
  ]
  print('\n' + console.table([header[0], 'seed', 'fields', *header[1:]], rows))
  print(f'\n% of test (of validation). Front: {root}/front.json, front.png')


def _tested(
    root: epath.Path,
    members: list[tuple[epath.Path, ConfigDict, dict[str, Any]]],
) -> list[dict[str, Any]]:
  """Returns the joint front of runs of one method and seed, tested.

  Args:
    root: The folder of all.
    members: (directory, config, summary) of each.
  """
  fronts = {
      config.method.training.front if (
          directory.name != artefact.CLASSIFIER
      ) else config.classifier.training.front
      for directory, config, _ in members
  }
  if len(fronts) > 1:
    raise InputError(
        f'The runs in {root} have fronts of other measures: '
        f'{"; ".join(sorted(fronts))}. Give a folder of runs with one.'
    )
  selects = history.parse_front(fronts.pop(), 'training.front')
  points = [
      (i, point)
      for i, (_, _, summary) in enumerate(members) for point in summary['front']
  ]
  kept = history.front([point for _, point in points], selects)
  fields = _differing([config.to_dict() for _, config, _ in members])
  found = []
  for place in kept:
    i, point = points[place]
    directory, config, _ = members[i]
    found.append(
        evaluate.of_front(run_lib.resolve(config, directory.parent),
                          config.method.name, point)
        | {'run': str(directory.relative_to(root)), 'fields': as_label(
            fields[i]
        )}
    )
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
