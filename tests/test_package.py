"""The sdist and the wheel: built, and used away from the checkout."""

import importlib.metadata
import os
import pathlib
import shutil
import subprocess
import sys
import tarfile
import zipfile

import pytest

ROOT = pathlib.Path(__file__).parents[1]
# What a checkout is built from; not in place, which would leave files there.
SOURCES = (
    'attribution', 'configs', 'impactx_jax', 'LICENSE', 'README.md',
    'pyproject.toml', 'tests',
)


def call(*command, **options) -> str:
  finished = subprocess.run(
      [str(part) for part in command],
      capture_output=True,
      text=True,
      check=False,
      **options,
  )
  assert finished.returncode == 0, finished.stdout + finished.stderr
  return finished.stdout


def can_build_here() -> bool:
  """Whether the environment has what [build-system] asks for."""
  version = importlib.metadata.version('setuptools')
  return int(version.partition('.')[0]) >= 77


@pytest.fixture(scope='module')
def built(tmp_path_factory):
  """A folder with the sdist, and the wheel that was made from it."""
  folder = tmp_path_factory.mktemp('package')
  source, out = folder / 'source', folder / 'dist'
  source.mkdir()
  for name in SOURCES:
    if (ROOT / name).is_dir():
      shutil.copytree(
          ROOT / name,
          source / name,
          symlinks=True,  # As git has impactx_jax/configs.
          ignore=shutil.ignore_patterns('__pycache__', '*.egg-info'),
      )
    else:
      shutil.copy(ROOT / name, source)
  isolation = ['--no-isolation'] if can_build_here() else []
  call(sys.executable, '-m', 'build', *isolation, '-o', out, source, cwd=folder)
  return out


@pytest.fixture(scope='module')
def installed(built, tmp_path_factory):
  """A folder with the wheel alone; its dependencies are the environment's."""
  folder = tmp_path_factory.mktemp('installed')
  (wheel,) = built.glob('*.whl')
  call(
      sys.executable, '-m', 'pip', 'install', '--no-deps', '--no-index',
      '--target', folder, wheel,
  )
  return folder


def names_in_wheel(built) -> list[str]:
  (wheel,) = built.glob('*.whl')
  return zipfile.ZipFile(wheel).namelist()


def test_the_wheel_has_what_the_checkout_has_and_no_tests(built):
  names = names_in_wheel(built)
  tops = {name.partition('/')[0] for name in names}
  assert {top for top in tops if not top.endswith('.dist-info')} == {
      'attribution', 'impactx_jax'
  }
  for package in ('attribution', 'impactx_jax'):
    for path in (ROOT / package).rglob('*.py'):
      assert str(path.relative_to(ROOT)) in names
  for path in (ROOT / 'configs').rglob('*.py'):
    assert f'impactx_jax/configs/{path.relative_to(ROOT / "configs")}' in names
  assert 'impactx_jax/report/page.html' in names
  for marker in ROOT.glob('*/py.typed'):
    assert str(marker.relative_to(ROOT)) in names


def test_the_sdist_has_the_recipes_as_files(built):
  (sdist,) = built.glob('*.tar.gz')
  with tarfile.open(sdist) as archive:
    members = {
        member.name.partition('/')[2]: member for member in archive.getmembers()
    }
  assert members['impactx_jax/configs/common.py'].isfile()
  assert 'LICENSE' in members and 'pyproject.toml' in members


def away(installed, tmp_path) -> dict:
  """A working directory and environment in which only the wheel is found."""
  env = os.environ | {
      'PYTHONPATH': str(installed), 'JAX_PLATFORMS': 'cpu',
      'PYTHONDONTWRITEBYTECODE': '1',
  }
  return {'cwd': tmp_path, 'env': env}


def test_the_wheel_is_imported_away_from_the_checkout(installed, tmp_path):
  printed = call(
      sys.executable, '-c',
      'import attribution, impactx_jax, impactx_jax.configs;'
      'from impactx_jax.configs import quickstart; quickstart.get_config();'
      'print(attribution.__file__); print(impactx_jax.__file__)',
      **away(installed, tmp_path),
  )
  for line in printed.splitlines():
    assert pathlib.Path(line).is_relative_to(installed)


@pytest.mark.parametrize(
    'program', [
        'impactx', 'impactx-table', 'impactx-sweep', 'impactx-explain',
        'impactx-front',
    ]
)
def test_the_programs_run_away_from_the_checkout(program, installed, tmp_path):
  printed = call(
      sys.executable, installed / 'bin' / program, '--help',
      **away(installed, tmp_path),
  )
  assert printed.startswith(program)
  assert 'quickstart' in printed
