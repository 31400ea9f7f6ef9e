"""Tests for stages without a classifier, or without whole maps of it."""

import json
import pathlib
import shutil

from attribution import service
from impactx_jax import stages
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import edit_json
from tests.pipeline_fixtures import keep_classifier
from tests.pipeline_fixtures import refused
from tests.pipeline_fixtures import set_field

no_work = pipeline_fixtures.no_work
finished = pipeline_fixtures.finished


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize('stage', ['maps', 'impactx'])
def test_stage_without_a_classifier_is_refused(tmp_path, tiny_config, stage):
  refused(
      tiny_config, tmp_path, stage, str(tmp_path), 'no trained classifier',
      '--stage=classifier',
  )
  assert not begun(tmp_path)


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize('kind', ['missing', 'file'])
def test_other_classifier_must_be_there(
    finished, tmp_path, tiny_config, kind
):
  other = tmp_path / 'other'
  if kind == 'file':
    other.write_text('')
  shutil.rmtree(finished / 'maps')
  shutil.rmtree(finished / 'impactx')
  tiny_config.attribution.classifier = str(other)
  shutil.rmtree(finished / 'impactx_lambda0')
  refused(
      tiny_config, finished, 'maps', str(other),
      '--config.attribution.classifier=',
  )
  assert not (finished / 'maps').exists()


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('entry', 'value'), [
    ('class_names', ['cat', 'dog']), ('image_shape', [28, 28, 1]),
])
def test_other_classifier_must_be_of_such_images(
    finished, tmp_path, tiny_config, entry, value
):
  summary = json.loads((finished / 'classifier' / 'summary.json').read_text())
  edit_json(
      finished / 'classifier' / 'summary.json',
      data=summary['data'] | {entry: value},
  )
  tiny_config.attribution.classifier = str(finished)
  refused(
      tiny_config, tmp_path / 'run', 'maps', str(finished), str(value[0]),
      str(summary['data'][entry][0]), '--config.attribution.classifier=',
  )
  assert not begun(tmp_path / 'run')


@pytest.mark.usefixtures('no_work')
def test_stage_two_without_maps_is_refused(finished, tiny_config):
  keep_classifier(finished)
  refused(
      tiny_config, finished, 'impactx', str(finished / 'maps'),
      'no complete attribution maps', '--stage=maps',
  )
  assert begun(finished) == {'classifier', 'config.json'}


@pytest.mark.usefixtures('no_work')
def test_stage_two_with_maps_that_are_not_finished_is_refused(
    finished, tiny_config
):
  shutil.rmtree(finished / 'impactx')
  (finished / 'maps' / 'manifest.json').unlink()
  refused(
      tiny_config, finished, 'impactx', str(finished / 'maps'), '--stage=maps'
  )
  assert not (finished / 'impactx').exists()


def _other_maps(finished, tmp_path, **entries) -> None:
  """Puts another workdir's maps in the place of the workdir's own."""
  other = shutil.copytree(finished, tmp_path / 'other')
  edit_json(other / 'maps' / 'manifest.json', **entries)
  keep_classifier(finished)
  shutil.copytree(other / 'maps', finished / 'maps')


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(('entry', 'change'), [
    ('classifier_digest', lambda digest: digest[::-1]),
    ('attribution', lambda settings: settings | {'max_evals': 2000}),
    ('data', lambda data: data | {'name': 'cifar10/3.0.2'}),
    ('seed', lambda seed: seed + 1),
    ('validation_fraction', lambda fraction: fraction / 2),
])
def test_stage_two_with_the_maps_of_another_run_is_refused(
    finished, tmp_path, tiny_config, entry, change
):
  manifest = json.loads((finished / 'maps' / 'manifest.json').read_text())
  wanted, found = manifest[entry], change(manifest[entry])
  _other_maps(finished, tmp_path, **{entry: found})
  message = refused(
      tiny_config, finished, 'impactx', str(finished / 'maps'),
      f'another {entry}', '--stage=maps',
  )
  if not isinstance(wanted, dict):
    assert str(wanted) in message and str(found) in message
  assert begun(finished) == {'classifier', 'config.json', 'maps'}


@pytest.mark.usefixtures('no_work')
def test_maps_begun_with_another_config_are_refused(
    finished, tmp_path, tiny_config
):
  _other_maps(finished, tmp_path)
  set_field(tiny_config, 'attribution.masker', 'mean')
  for stage in ('all', 'maps', 'impactx'):
    refused(
        tiny_config, finished, stage, str(finished / 'maps'),
        "attribution.masker (there: 'blur'; now: 'mean')", '--workdir',
    )
  assert begun(finished) == {'classifier', 'config.json', 'maps'}


def _spoil(shard: pathlib.Path, how: str) -> None:
  content = bytearray(shard.read_bytes())
  if how == 'missing':
    shard.unlink()
    return
  if how == 'altered':
    content[len(content) // 2] ^= 1
  elif how == 'truncated':
    del content[len(content) // 2 :]
  elif how == 'emptied':
    content.clear()
  shard.write_bytes(content)


@pytest.mark.usefixtures('no_work')
@pytest.mark.parametrize(
    'how', ['missing', 'altered', 'truncated', 'emptied']
)
def test_shard_that_is_not_as_written_is_refused(finished, tiny_config, how):
  shutil.rmtree(finished / 'impactx')
  shard = sorted((finished / 'maps').glob('*.tfrecord'))[1]
  _spoil(shard, how)
  refused(
      tiny_config, finished, 'impactx', str(shard), '--stage=maps'
  )
  assert not (finished / 'impactx').exists()


def test_only_the_spoilt_shard_is_made_again(
    finished, tiny_config, monkeypatch
):
  shutil.rmtree(finished / 'impactx')
  shards = sorted((finished / 'maps').glob('*.tfrecord'))
  contents = [shard.read_bytes() for shard in shards]
  shards[1].unlink()
  explained = []

  def explain(part, teacher, progress):
    explained.append(len(part['id']))
    raise Reached('explain')

  monkeypatch.setattr(service, '_explain_shard', explain)
  monkeypatch.setattr(service, '_estimate', lambda *_: None)
  with pytest.raises(Reached):
    stages.run(tiny_config, finished, 'maps')
  assert explained == [16]
  for shard, content in zip(shards, contents, strict=True):
    assert shard == shards[1] or shard.read_bytes() == content
