"""Sweeps that cannot be run, refused before any work."""

from attribution import service
from impactx_jax.experiments import trials
from impactx_jax.training import loop
from impactx_jax.configs import common
import pytest
from tests.pipeline_fixtures import forbid
from tests.table_fixtures import refused
from tests.table_fixtures import write_sweep


@pytest.mark.parametrize('grid', [
    pytest.param({'method.lamda_': [0.5]}, id='unknown field'),
    pytest.param({'methods.lambda_': [0.5]}, id='unknown section'),
    pytest.param({'method.lambda_.x': [0.5]}, id='field of a field'),
    pytest.param({'method.lambda_.x.y': [0.5]}, id='deeper still'),
    pytest.param({'method.lep_units': ['many']}, id='word for a number'),
    pytest.param({'method.lep_units': [0.5]}, id='fraction'),
    pytest.param({'data.name': [3]}, id='number for a word'),
    pytest.param({'method.training': [3]}, id='number for a section'),
    pytest.param({'method.lep_units': [None]}, id='nothing'),
    pytest.param({'method.lep_units': [8, 0]}, id='out of range'),
    pytest.param({'method.maps': ['shufled']}, id='unknown choice'),
])
def test_a_trial_that_cannot_be_run_is_refused_before_any_work(
    tmp_path, monkeypatch, grid
):
  forbid(monkeypatch, (loop, 'train'), (service, 'write_maps'))
  path = write_sweep(tmp_path, grid)
  (field,) = grid
  refused(
      lambda: trials.run(common.get_config(), tmp_path / 'sweep', path), field
  )
  assert not (tmp_path / 'sweep').exists()


@pytest.mark.parametrize(('options', 'part'), [
    ({'jobs': 0}, '--jobs=0'), ({'trials': -1}, '--trials=-1'),
])
def test_wrong_numbers_are_refused_before_any_work(
    tmp_path, monkeypatch, options, part
):
  forbid(monkeypatch, (loop, 'train'), (service, 'write_maps'))
  refused(
      lambda: trials.run(
          common.get_config(), tmp_path / 'sweep', 'lambda_', **options
      ),
      part,
  )
  assert not (tmp_path / 'sweep').exists()
