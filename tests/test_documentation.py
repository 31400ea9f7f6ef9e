"""The README and the site: what they tell to type works, links lead somewhere.

Every command is one that its program takes, every block of Python compiles, and
the snippets for other frameworks are run where the framework is installed.
"""

import ast
import importlib
import importlib.util
import os
import pathlib
import re
import shlex
import subprocess
import sys
import tomllib

from attribution import explainers
from impactx_jax import methods
from impactx_jax import models
from impactx_jax import stages
from impactx_jax.commands import table
from impactx_jax.configs import common
from impactx_jax.experiments import grids
from impactx_jax.experiments import over_seeds
from impactx_jax.stages import checks
from ml_collections import config_flags
import pytest
from tests import own_files_fixtures

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / 'README.md'
PAGES = sorted([
    *(ROOT / name for name in ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')),
    *(ROOT / 'docs').rglob('*.md'),
])
FENCED = re.compile(r'^```(\w*)\n(.*?)^```', re.DOTALL | re.MULTILINE)


def name_of(page: pathlib.Path) -> str:
  return str(page.relative_to(ROOT))


def blocks(language: str) -> dict[str, str]:
  """Every block of code in a language, by its page and place."""
  return {
      f'{name_of(page)}:{i}': code
      for page in PAGES
      for i, (kind, code) in enumerate(FENCED.findall(page.read_text()))
      if kind == language
  }


def shell_commands() -> list[str]:
  """Every command of the sh blocks, continued lines joined, without doubles."""
  lines = '\n'.join(blocks('sh').values()).replace('\\\n', ' ').splitlines()
  commands = [
      ' '.join(part.split())
      for line in lines
      if line.strip() and not line.startswith('#')
      for part in line.split(' && ')
  ]
  return list(dict.fromkeys(commands))


def commands_of(*programs: str) -> list[str]:
  return [
      command for command in shell_commands() if command.startswith(programs)
  ]


def impactx_commands():
  return commands_of('impactx ', 'impactx_jax/launch/')


def flags_of(command: str) -> dict[str, str]:
  """The flags of a command, all written --name=value."""
  arguments = [a for a in shlex.split(command) if a.startswith('--')]
  values = dict(a.lstrip('-').split('=', 1) for a in arguments)
  assert values.pop('workdir')
  return values


def config_of(values: dict[str, str]):
  """The config that --config and the fields that are left describe."""
  recipe = pathlib.Path(values.pop('config')).stem
  module = importlib.import_module(f'impactx_jax.configs.{recipe}')
  config = module.get_config()
  common.set_method(config, values.get('config.method.name', 'impactx'))
  for field, value in values.items():
    assert field.startswith('config.'), field
    path = field.removeprefix('config.')
    current = config_flags.config_path.get_value(path, config)
    read = ast.literal_eval if isinstance(current, tuple) else type(current)
    config_flags.config_path.set_value(path, config, read(value))
  return config


def test_the_readme_is_short_and_has_the_set_up_commands():
  text = README.read_bytes()
  assert len(text) <= 10_000
  assert b"\npip install -e '.[test]' && pytest\n" in text
  commands = shell_commands()
  assert 'pip install -e .' in commands
  assert "pip install -e '.[test]'" in commands and 'pytest' in commands
  assert 'mkdocs build --strict' in commands


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_nothing_is_left_to_fill_in(page):
  text = page.read_text()
  # Nothing is left to be filled in, however it is written.
  assert not re.search(r'@@|\{\{|TO[ -]?DO|FIX[ -]?ME|TBD', text)
  assert text.count('```') % 2 == 0


@pytest.fixture
def in_a_folder_with_the_files(tmp_path, monkeypatch):
  """A folder with the documented files in it."""
  own_files_fixtures.write(tmp_path)
  monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures('in_a_folder_with_the_files')
@pytest.mark.parametrize('command', impactx_commands())
def test_command_is_one_that_the_program_takes(command):
  values = flags_of(command)
  assert values.pop('stage', 'all') in stages.STAGES
  values.setdefault('config', 'quickstart')  # Of the workdir, which has one.
  checks.check(config_of(values))


@pytest.mark.usefixtures('in_a_folder_with_the_files')
@pytest.mark.parametrize('command', commands_of('impactx-table '))
def test_table_is_one_that_the_program_makes(command):
  values = flags_of(command)
  names = values.pop('methods', ','.join(table.METHODS.default)).split(',')
  plan = over_seeds.Plan.parse(values.pop('seeds', table.SEEDS.default), names)
  config = config_of(values)
  for name in plan.names.keys() - {'baseline'}:
    config.method.name = name
    checks.check(config)


@pytest.mark.parametrize('command', commands_of('impactx-sweep '))
def test_sweep_is_one_that_the_program_runs(command):
  values = flags_of(command)
  _, grid = grids.load(values.pop('sweep'))
  trials = int(values.pop('trials', '0'))
  chosen = grids.choose(len(grid), trials, seed=0)
  assert len(chosen) == (trials or len(grid))
  assert int(values.pop('jobs', '1')) >= 1
  config = config_of(values)
  config.update_from_flattened_dict(grid[0])
  checks.check(config)


@pytest.mark.parametrize('command', commands_of('python -m tests.benchmarks.'))
def test_benchmark_is_one_that_there_is_and_knows_its_flags(command):
  _, _, module, *arguments = shlex.split(command)
  source = ROOT.joinpath(*module.split('.')).with_suffix('.py').read_text()
  for shared in ('common', 'guidance_runs'):
    if f'{shared}.parser(' in source:
      source += (ROOT / 'tests' / 'benchmarks' / f'{shared}.py').read_text()
  for argument in arguments:
    flag = argument.partition('=')[0]
    assert re.search(rf"add_argument\(\s*'{flag}'", source), flag


@pytest.mark.parametrize('command', commands_of('pip install -e '))
def test_what_is_installed_is_an_extra(command):
  project = tomllib.loads((ROOT / 'pyproject.toml').read_text())['project']
  (target,) = shlex.split(command)[3:]
  extras = re.fullmatch(r'\.(?:\[([\w,]+)\])?', target)[1]
  for extra in (extras or '').split(',') if extras else ():
    assert extra in project['optional-dependencies']


def test_there_are_commands_to_check_and_every_program_is_known():
  assert len(impactx_commands()) >= 8
  assert commands_of('impactx-table ') and commands_of('impactx-sweep ')
  known = (
      'bash tests/', 'git ', 'impactx ', 'impactx-explain --workdir=',
      'impactx-front --workdir=runs/guidance --by=method.guidance_loss',
      'impactx-sweep ', 'impactx-table ', 'impactx_jax/launch/', 'mkdocs build',
      'pip install ', 'pre-commit ', 'pytest', 'python -m build',
      'python -m tests.benchmarks.', 'python -m venv', 'ruff check',
      'source .venv/', 'TFDS_DATA_DIR=',
  )
  for command in shell_commands():
    assert command.startswith(known), command


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_files_of_the_tests_that_are_named_are_there(page):
  for path in re.findall(r'\btests/[\w/]+\.\w+', page.read_text()):
    assert (ROOT / path).is_file(), path


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_links_lead_somewhere(page):
  text = re.sub(r'```.*?```', '', page.read_text(), flags=re.DOTALL)
  for target in re.findall(r'\]\(([^)\s]+)\)', text):
    if target.startswith('https://'):
      continue
    path, _, anchor = target.partition('#')
    linked = page.parent / path if path else page
    assert linked.exists(), target
    if anchor:
      titles = re.findall(r'^#+ (.+)$', linked.read_text(), re.MULTILINE)
      anchors = [re.sub(r'[^\w -]', '', t).lower() for t in titles]
      assert anchor in [a.strip().replace(' ', '-') for a in anchors], target


def test_the_readme_leads_to_every_page_but_through_others():
  """By links alone, one after another."""
  seen, todo = set(), [README]
  while todo:
    page = todo.pop()
    if page in seen or page.suffix != '.md':
      continue
    seen.add(page)
    for target in re.findall(r'\]\(([^):#\s]+)[^)\s]*\)', page.read_text()):
      todo.append((page.parent / target).resolve())
  # What the site has of files beside the README, and its first page.
  left_out = {'changelog.md', 'contributing.md', 'index.md'}
  pages = {p for p in PAGES if p.name not in left_out}
  assert not pages - seen


def test_every_page_is_in_the_navigation():
  """Names alone: the file has tags that plain YAML does not know."""
  text = (ROOT / 'mkdocs.yml').read_text()
  for page in (ROOT / 'docs').rglob('*.md'):
    name = re.escape(str(page.relative_to(ROOT / 'docs')))
    assert re.search(rf'^ *- (\w+: )?{name}$', text, re.MULTILINE), page


@pytest.mark.parametrize(
    'page, names',
    [
        ('methods.md', [n for n in methods.METHODS if n != methods.BASELINE]),
        ('comparing.md', list(grids.installed())),
        ('usage.md', list(explainers.EXPLAINERS)),
        ('backbones.md', list(models.BACKBONES)),
    ],
)
def test_everything_there_is_to_choose_is_named(page, names):
  text = (ROOT / 'docs' / page).read_text()
  assert names and not [name for name in names if f'`{name}`' not in text]


@pytest.mark.parametrize('name', blocks('python'))
def test_python_compiles_and_what_it_imports_of_ours_is_there(name):
  tree = ast.parse(blocks('python')[name], name)
  for node in ast.walk(tree):
    if isinstance(node, ast.ImportFrom) and node.module.startswith(
        ('attribution', 'impactx_jax')
    ):
      for alias in node.names:
        found = importlib.import_module(node.module)
        assert hasattr(found, alias.name) or importlib.util.find_spec(
            f'{node.module}.{alias.name}'
        ), alias.name


def snippets() -> dict[str, str]:
  """The complete programs of the page for other frameworks, by their title."""
  text = (ROOT / 'docs' / 'explain.md').read_text()
  _, _, text = text.partition('## From other frameworks')
  snippet = r'^### (.+?)\n.*?^```python\n(.*?)^```'
  return dict(re.findall(snippet, text, re.DOTALL | re.MULTILINE))


@pytest.mark.parametrize(('section', 'printed'), [
    ('Regions of your own', r'\(4, 16, 16, 3\)'),
    ('Learn to explain', rf'\(8, 16, 16, 1\) .* {64 * 50}'),
])
def test_the_first_snippet_of_a_section_runs(section, printed):
  text = (ROOT / 'docs' / 'explain.md').read_text()
  _, _, text = text.partition(f'## {section}\n')
  code = re.search(r'^```python\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
  finished = run_alone(code.group(1))
  assert finished.returncode == 0, finished.stderr
  assert re.fullmatch(printed, finished.stdout.strip()), finished.stdout


def test_the_snippet_that_keeps_draws_and_measures_runs(tmp_path):
  text = (ROOT / 'docs' / 'explain.md').read_text()
  _, _, text = text.partition('## Keep, look at, and measure maps')
  code = re.search(r'^```python\n(.*?)^```', text, re.DOTALL | re.MULTILINE)
  finished = run_alone(code.group(1), cwd=tmp_path)
  assert finished.returncode == 0, finished.stderr
  assert {path.name for path in tmp_path.iterdir()} == {'maps', 'maps.png'}
  lines = finished.stdout.splitlines()
  assert lines[0].split() == ['partition_grid', 'integrated_gradients']
  assert 'paired differences to integrated_gradients' in lines[-1]


# The module without which a snippet is not run.
NEEDS = {
    'Flax Linen': 'flax.linen',
    'Flax NNX': 'flax.nnx',
    'Equinox': 'equinox',
    'Keras': 'keras',
    'TensorFlow': 'jax.experimental.jax2tf',
    'PyTorch': 'torch',
    'PyTorch as JAX, by torchax': 'torchax',
}


def run_alone(
    code: str, cwd: pathlib.Path | None = None
) -> subprocess.CompletedProcess:
  """Runs code in a process of its own, as a user's program would be."""
  env = {k: v for k, v in os.environ.items() if k != 'KERAS_BACKEND'}
  return subprocess.run(
      [sys.executable, '-c', code],
      capture_output=True,
      text=True,
      timeout=300,
      env=env | {'PYTHONPATH': str(ROOT)},
      cwd=cwd,
      check=False,
  )


@pytest.mark.parametrize('title', NEEDS)
def test_snippet_for_another_framework_runs(title):
  module = NEEDS[title]
  if importlib.util.find_spec(module.partition('.')[0]) is None:
    pytest.skip(f'{module} is not installed')
  # It is there, and does not import beside every PyTorch: see the page.
  if module == 'torchax' and run_alone('import torchax').returncode:
    pytest.skip('torchax does not import beside this PyTorch')
  finished = run_alone(snippets()[title])
  assert finished.returncode == 0, finished.stderr
  shape = finished.stdout.splitlines()[-1]
  assert shape in ('(4, 32, 32, 3)', '(4, 3, 32, 32)')


def test_every_snippet_is_run():
  assert snippets().keys() == NEEDS.keys()
