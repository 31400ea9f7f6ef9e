"""Tests for what the commands run, and what they leave as it is."""

import functools
import json
import shutil

from attribution import main as attribution_main
from attribution import service
from impactx_jax import main
from impactx_jax import stages
from impactx_jax.stages import evaluate
from impactx_jax.training import loop
import pytest
from tests import cli_fixtures
from tests import pipeline_fixtures

finished = pipeline_fixtures.finished
in_process = cli_fixtures.in_process


@pytest.fixture
def calls(monkeypatch):
  """Records the calls of the pipeline instead of running it."""
  made = []
  monkeypatch.setattr(stages, 'run', lambda *args: made.append(args))
  return made


@pytest.fixture
def no_training(monkeypatch):
  """Fails the test that trains or explains."""
  for module, name in ((loop, 'train'), (service, 'write_maps')):
    monkeypatch.setattr(
        module, name, functools.partial(pytest.fail, f'{name} was called')
    )


def test_input_error_exits_with_2_and_a_bug_does_not(
    in_process, tmp_path, monkeypatch, capsys
):
  arguments = ('--config=quickstart', f'--workdir={tmp_path / "run"}')
  with pytest.raises(SystemExit) as error:
    in_process(main, *arguments, '--config.method.name=impactz')
  assert error.value.code == 2
  assert "Did you mean 'impactx'?" in capsys.readouterr().err

  def broken(*_):
    raise ValueError('a bug')

  monkeypatch.setattr(stages, 'run', broken)
  with pytest.raises(ValueError, match='a bug'):
    in_process(main, *arguments)


@pytest.mark.parametrize('flags', [
    ('data.label_fraction=0',),
    ('model.name=nowhere.py',),
    ('model.width=-1',),
    ('classifier.workdir=nowhere',),
    ('attribution.workdir=nowhere',),
    ('method.name=abm',),
    ('method.maps=shufled',),
    ('method.map_cell=0',),
    ('method.name=impactx_single_stage', 'method.refresh_every=0'),
    ('method.name=impactx_single_stage', 'method.refresh_evals=1'),
], ids=lambda flags: flags[-1])
def test_bad_value_exits_with_2_and_says_so_in_one_paragraph(
    in_process, tmp_path, monkeypatch, capsys, flags
):
  monkeypatch.chdir(tmp_path)
  with pytest.raises(SystemExit) as error:
    in_process(
        main, '--config=quickstart', '--workdir=run',
        *(f'--config.{flag}' for flag in flags),
    )
  assert error.value.code == 2
  message = capsys.readouterr().err.strip()
  assert message.startswith('Error: ') and '\n\n' not in message
  assert flags[-1].partition('=')[2] in message
  assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(('content', 'said'), [
    (None, 'There is no file mine.py'),
    ('1 / 0', 'ZeroDivisionError'),
    ('METHOD = 3', 'defines no METHOD'),
])
def test_a_method_that_cannot_be_loaded_is_one_paragraph(
    in_process, tmp_path, monkeypatch, capsys, content, said
):
  monkeypatch.chdir(tmp_path)
  if content:
    (tmp_path / 'mine.py').write_text(content)
  with pytest.raises(SystemExit) as error:
    in_process(
        main, '--config=quickstart', '--workdir=run',
        '--config.method.name=mine.py',
    )
  assert error.value.code == 2
  message = capsys.readouterr().err.strip()
  assert message.startswith('Error: ') and '\n\n' not in message
  assert said in ' '.join(message.split())
  assert not (tmp_path / 'run').exists()


def test_flags_reach_the_pipeline(in_process, calls):
  in_process(
      main, '--config=quickstart', '--workdir=run', '--stage=maps',
      '--config.data.name=shapes', '--config.data.image_size=(48,64)',
      '--config.method.lambda_=2', '--config.data.download',
      '--config.attribution.classifier=../other',
  )
  ((config, workdir, stage),) = calls
  assert (workdir, stage) == ('run', 'maps')
  assert config.data.name == 'shapes'
  assert config.data.image_size == (48, 64)
  assert config.method.lambda_ == 2.0
  assert config.data.download is True
  assert config.attribution.classifier == '../other'
  assert config.attribution.max_evals == 500


def test_all_stages_are_the_default(in_process, calls):
  in_process(main, '--workdir=run')
  assert calls == [(None, 'run', 'all')]


def test_attribution_alone_is_the_maps_stage(in_process, calls):
  in_process(attribution_main, '--workdir=run')
  assert calls == [(None, 'run', 'maps')]


@pytest.mark.usefixtures('no_training')
def test_finished_workdir_is_evaluated_again_without_a_config(
    in_process, finished, capsys
):
  report = finished / 'report'
  before = json.loads((report / 'metrics.json').read_text())
  shutil.rmtree(report)
  in_process(main, f'--workdir={finished}', '--stage=evaluate')
  after = json.loads((report / 'metrics.json').read_text())
  for name in ('accuracy', 'cross_entropy', 'maps', 'inputs', 'data'):
    assert after[name] == before[name]
  assert (report / 'panels.png').stat().st_size > 1000
  printed = capsys.readouterr().out
  assert f'Report: {report}' in printed
  for name in ('baseline', 'impactx', 'impactx_lambda0'):
    assert f'{100 * before["accuracy"][name]:.2f}' in printed


@pytest.mark.usefixtures('no_training')
def test_finished_workdir_has_nothing_left_to_do(
    finished, tiny_config, monkeypatch, capsys
):
  monkeypatch.setattr(
      evaluate, 'measure', lambda *_: pytest.fail('measure was called')
  )
  before = {
      path: path.read_bytes() for path in finished.rglob('*') if path.is_file()
  }
  stages.run(tiny_config, finished)
  stages.run(None, finished)
  assert capsys.readouterr().out.count('Report: ') == 2
  assert {
      path: path.read_bytes() for path in finished.rglob('*') if path.is_file()
  } == before


@pytest.mark.usefixtures('no_training')
def test_each_finished_stage_is_skipped_by_itself(finished, tiny_config):
  for stage in ('classifier', 'maps', 'impactx'):
    stages.run(tiny_config, finished, stage)
