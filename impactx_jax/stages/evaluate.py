"""Evaluation: the test split, the maps, and the report of both."""

import dataclasses
from typing import Any

from absl import logging
from attribution import files
from attribution.errors import InputError
from impactx_jax import methods
from impactx_jax import parallel
from impactx_jax import user_files
from impactx_jax.data import maps as map_data
from impactx_jax.data import sources
from impactx_jax.data.columns import Columns
from impactx_jax.evaluation import accuracy
from impactx_jax.evaluation import explaining
from impactx_jax.evaluation import guard
from impactx_jax.evaluation import measure_maps
from impactx_jax.report import console
from impactx_jax.report import figures
from impactx_jax.report import page
from impactx_jax.report import panels
from impactx_jax.stages import artefact
from impactx_jax.stages import configs
from impactx_jax.stages import maps as maps_stage
from impactx_jax.stages import provenance
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages import trained
from impactx_jax.stages.runs import Run
from impactx_jax.training import evaluator
from impactx_jax.training import history
import jax
import numpy as np


def evaluate(run: Run, again: bool = False) -> None:
  """Measures the classifier and the method, and writes the report.

  Args:
    run: Whose networks are trained.
    again: Whether to do so also where it is done.
  """
  report = artefact.report(run.workdir, run.config)
  names = {
      user_files.stem(name): name
      for name in (methods.BASELINE, *run.method_names())
  }
  summaries = {short: _summary(run, name) for short, name in names.items()}
  key = {'inputs': {
      'digests': {name: s['digest'] for name, s in summaries.items()},
      'evaluation': files.as_json(run.config.evaluation.to_dict()),
      'attribution': explaining.settings(run.config.attribution),
  }}
  if (other := _other_seed(run)) is not None:
    key['inputs']['other'] = _summary_of_other(run, other)['digest']
  metrics = report.load()
  if again or metrics is None or report.differing(key):
    metrics = measure(run, report, names, summaries) | key
    report.finish(metrics)
  else:
    logging.info('%s is complete.', report.directory)
  print(f'\n{console.summary(metrics)}\n\nReport: {report.directory}')


def _summary(run: Run, name: str) -> dict[str, Any]:
  result = run.trained(name)
  summary = result.load()
  if summary is None:
    raise InputError(
        f'{result.directory} holds no finished training, so there is '
        'nothing to evaluate. Run --stage=all with the same --config '
        'first, or name the method that was trained with '
        '--config.method.name=NAME.'
    )
  return summary


def measure(
    run: Run,
    report: artefact.Artefact,
    names: dict[str, str],
    summaries: dict[str, dict[str, Any]],
) -> dict[str, Any]:
  """Measures, draws, and returns what `metrics.json` is to say.

  Args:
    run: Whose networks are trained.
    report: Where the page goes.
    names: Of the networks, by what they are called.
    summaries: Of their trainings, likewise.
  """
  tests = {short: test(run, name) for short, name in names.items()}
  report.begin(run.config)
  dataset = run_lib.dataset(run)
  metrics = {'data': dataset.fingerprint()} | {
      measure: {name: found[measure] for name, found in tests.items()}
      for measure in tests[methods.BASELINE]
      if measure not in ('label', 'predicted', 'correct', 'digest', 'front')
  }
  name = run.config.method.name
  if front := tests[user_files.stem(name)].get('front'):
    metrics['front'] = {user_files.stem(name): front}
  network, measured = trained.restore(run.trained(name)), None
  if has_maps(network, dataset):
    other = _other_seed(run)
    measured = measure_maps.measure(
        run.config, dataset, network, other and trained.restore(other),
        maps_stage.read_maps(run, dataset.fingerprint())
        if run.kind == 'true_class' else None,
        # What the branch was taught, where that is A's.
        trained.restore(run.classifier)
        if run.maps and run.explained == run.classifier else None,
    )
    metrics['maps'] = measured.summary(run.config.evaluation, run.config.seed)
    metrics['guard'] = _guard(run, dataset, network, measured)
  metrics['provenance'] = provenance.collect()
  if not parallel.is_main_process():
    return metrics
  if measured:
    panels.draw(
        report.directory / 'panels.png',
        measured,
        class_names=dataset.class_names,
        count=run.config.evaluation.num_panels,
    )
  commands = [s['provenance']['command'] for s in summaries.values()]
  commands.append(metrics['provenance']['command'])
  files.write_text(report.directory / 'index.html', page.render(
      metrics=metrics,
      measured=measured,
      by_class=figures.per_class(
          {
              n: accuracy.by_class(
                  found, dataset.task, len(dataset.class_names)
              )
              for n, found in tests.items()
          },
          dataset.class_names,
      ),
      histories={name: s['history'] for name, s in summaries.items()},
      config=run.config.to_dict(),
      commands=list(dict.fromkeys(map(tuple, commands))),
      about_map=methods.find(name).about(run.trained(name).config.method),
  ))
  return metrics


def test(run: Run, name: str) -> dict[str, Any]:
  """Returns what a trained network says of the test split, kept on disk.

  Args:
    run: Whose networks are trained.
    name: A method, or the baseline.

  Returns:
    What `accuracy.test` gives, and `map_r2` and `probe_r2`, how much of the
    maps of the validation images its own map and its code have, or None; and of
    a run with a front its points, see `of_front`; JSON-compatible.
  """
  result = run.trained(name)
  summary, path = result.load(), result.directory / artefact.TEST
  fit = {key: summary.get(key) for key in ('map_r2', 'probe_r2')}
  if path.exists():
    found = configs.read_json(path)
    if found['digest'] == summary['digest']:
      return found | fit
  method, variables = trained.restore(result)
  dataset, columns = run_lib.dataset(run), _test_columns(run, name, method)
  found = accuracy.test(
      method, variables, columns, run.config.evaluation.batch_size,
      dataset.group_names,
  ) | {'digest': summary['digest']}
  if summary.get('front'):
    found['front'] = [of_front(run, name, point) for point in summary['front']]
  if parallel.is_main_process():
    files.write_json(path, found)
  return found | fit


def _test_columns(run: Run, name: str, method: methods.Method) -> Columns:
  """Returns the test split, with its maps for a method that needs them."""
  dataset = run_lib.dataset(run)
  if 'map' not in method.inputs:
    return dataset.test
  maps = maps_stage.read_maps(run, dataset.fingerprint())
  return map_data.targets(
      maps, run.trained(name).config.method, run.config.seed
  )['test']


def of_front(
    run: Run, name: str, point: dict[str, float]
) -> dict[str, float]:
  """Measures a network of a run's front on the test split.

  Args:
    run: Whose networks are trained.
    name: A method.
    point: Of the front, as the run's summary has it.

  Returns:
    `epoch` (from 1), `step`, and each measure of the front, in its order, by
    'validation/NAME' and 'test/NAME'.
  """
  result = run.trained(name)
  method, variables = trained.restore(result, point['step'])
  measured = evaluator.measure(
      method, variables, _test_columns(run, name, method),
      run.config.evaluation.batch_size, further=True,
  )
  selects = history.parse_front(
      result.config[methods.find(result.method).section].training.front, 'front'
  )
  found = {n: point[n] for n in ('epoch', 'step')}
  for select in selects:
    measure = select.measure
    found[f'validation/{measure}'] = point[f'validation/{measure}']
    found[f'test/{measure}'] = measured[measure]
  return found


def _guard(
    run: Run,
    dataset: sources.Dataset,
    network: trained.Network,
    measured: measure_maps.Measured,
) -> dict[str, Any] | None:
  """Calibrates the guard of the method's own map, and keeps it beside it.

  Returns:
    The guard, and `alarms`, the share of the measured test images that it warns
    of; None where there can be no guard.
  """
  result = run.trained(run.config.method.name)
  found = guard.calibrate(run.config, dataset, network)
  path = result.directory / artefact.GUARD
  if found is None:
    if parallel.is_main_process():
      path.unlink(missing_ok=True)  # Of an evaluation before.
    return None
  values = guard.of_images(
      found, network, measured.images, run.config.evaluation.batch_size
  )
  content = dataclasses.asdict(found)
  if parallel.is_main_process():
    files.write_json(
        path,
        content | {'digest': result.load()['digest']},
    )
  return content | {'alarms': float(np.mean(values > found.threshold))}


def has_maps(network: trained.Network, dataset: sources.Dataset) -> bool:
  """Whether a network predicts an attribution map from the image alone."""
  method, variables = network
  if method.inputs != ('image',):
    return False
  image = jax.ShapeDtypeStruct((1, *dataset.image_shape), np.float32)
  prediction = jax.eval_shape(method.predict, variables, {'image': image})
  return prediction.attribution is not None


def _other_seed(run: Run) -> artefact.Artefact | None:
  """Returns the same method, trained with another seed, if one is named."""
  path = run.config.evaluation.other
  if not path:
    return None
  result = run.trained(run.config.method.name)
  home = artefact.open_workdir(path, '--config.evaluation.other')
  return artefact.trained(home, run.config.method.name, result.config)


def _summary_of_other(run: Run, other: artefact.Artefact) -> dict[str, Any]:
  summary, own = other.load(), run.classifier.load()
  if summary is None or (
      summary['data']['class_names'] != own['data']['class_names']
  ):
    raise InputError(
        f'{other.workdir} holds no {run.config.method.name} trained on these '
        'classes. Give the workdir of the same run with another seed with '
        '--config.evaluation.other=DIR.'
    )
  return summary
