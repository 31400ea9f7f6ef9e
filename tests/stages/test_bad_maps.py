"""Tests for stages without a classifier, or without whole maps of it."""

import json
import pathlib
import shutil
import types

from attribution import service
from impactx_jax import stages
import pytest
from tests import pipeline_fixtures
from tests.pipeline_fixtures import Reached
from tests.pipeline_fixtures import begun
from tests.pipeline_fixtures import case
from tests.pipeline_fixtures import edit_json
from tests.pipeline_fixtures import keep_classifier
from tests.pipeline_fixtures import refused
from tests.pipeline_fixtures import set_field

no_work = pipeline_fixtures.no_work
finished = pipeline_fixtures.finished


@pytest.mark.usefixtures('no_work')
def test_stage_without_a_classifier_is_refused(tmp_path, tiny_config):
  for stage in ('maps', 'impactx'):
    with case(stage):
      refused(
          tiny_config, tmp_path, stage, str(tmp_path), 'no trained classifier',
          '--stage=classifier',
      )
      assert not begun(tmp_path)


@pytest.mark.usefixtures('no_work')
def test_other_classifier_must_be_there(finished, tmp_path, tiny_config):
  keep_classifier(finished)
  (tmp_path / 'file').write_text('')
  for name in ('missing', 'file'):
    other = str(tmp_path / name)
    tiny_config.attribution.classifier = other
    with case(name):
      refused(
          tiny_config, finished, 'maps', other,
          '--config.attribution.classifier=',
      )
      assert not (finished / 'maps').exists()


@pytest.mark.usefixtures('no_work')
def test_other_classifier_must_be_of_such_images(
    finished, tmp_path, tiny_config
):
  path = finished / 'classifier' / 'summary.json'
  data = json.loads(path.read_text())['data']
  tiny_config.attribution.classifier = str(finished)
  for entry, value in (
      ('class_names', ['cat', 'dog']), ('image_shape', [28, 28, 1]),
      ('task', 'multi_label'),
  ):
    edit_json(path, data=data | {entry: value})
    with case(entry):
      refused(
          tiny_config, tmp_path / 'run', 'maps', str(finished), str(value),
          str(data[entry]), '--config.attribution.classifier=',
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


def _other_maps(finished, tmp_path) -> None:
  """Puts another workdir's maps in the place of the workdir's own."""
  other = shutil.copytree(finished, tmp_path / 'other')
  keep_classifier(finished)
  shutil.copytree(other / 'maps', finished / 'maps')


@pytest.mark.usefixtures('no_work')
def test_stage_two_with_the_maps_of_another_run_is_refused(
    finished, tmp_path, tiny_config
):
  _other_maps(finished, tmp_path)
  path = finished / 'maps' / 'manifest.json'
  manifest = json.loads(path.read_text())
  for entry, change in (
      ('classifier_digest', lambda digest: digest[::-1]),
      ('attribution', lambda settings: settings | {'max_evals': 2000}),
      ('data', lambda data: data | {'name': 'cifar10/3.0.2'}),
      ('seed', lambda seed: seed + 1),
      ('validation_fraction', lambda fraction: fraction / 2),
  ):
    wanted, found = manifest[entry], change(manifest[entry])
    path.write_text(json.dumps(manifest | {entry: found}))
    with case(entry):
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
def test_shard_that_is_not_as_written_is_refused(finished, tiny_config):
  shutil.rmtree(finished / 'impactx')
  shard = sorted((finished / 'maps').glob('*.tfrecord'))[1]
  content = shard.read_bytes()
  for how in ('missing', 'altered', 'truncated', 'emptied'):
    _spoil(shard, how)
    with case(how):
      refused(tiny_config, finished, 'impactx', str(shard), '--stage=maps')
      assert not (finished / 'impactx').exists()
    shard.write_bytes(content)


def test_maps_without_room_on_the_disk_are_refused(
    finished, tiny_config, monkeypatch
):
  keep_classifier(finished)
  usage = types.SimpleNamespace(free=1000)
  monkeypatch.setattr(shutil, 'disk_usage', lambda _: usage)
  refused(
      tiny_config, finished, 'maps', 'The maps need', '1.0 kB free',
      '--workdir=', '--config.attribution.num_examples=N',
  )
  assert not list((finished / 'maps').glob('*.tfrecord'))


def test_only_the_spoilt_shard_is_made_again(
    finished, tiny_config, monkeypatch
):
  shutil.rmtree(finished / 'impactx')
  shards = sorted((finished / 'maps').glob('*.tfrecord'))
  contents = [shard.read_bytes() for shard in shards]
  shards[1].unlink()
  explained = []

  def explain(part, *_):
    explained.append(len(part['id']))
    raise Reached('explain')

  monkeypatch.setattr(service, '_explain_shard', explain)
  monkeypatch.setattr(service, '_estimate', lambda *_: None)
  with pytest.raises(Reached):
    stages.run(tiny_config, finished, 'maps')
  assert explained == [16]
  for shard, content in zip(shards, contents, strict=True):
    assert shard == shards[1] or shard.read_bytes() == content
