"""The report's page: what it says, that it stands alone, and in a browser."""

import html.parser
import json
import re
import shutil
import subprocess

from impactx_jax.report import figures
from impactx_jax.report import page as page_lib
import numpy as np
import pytest

CHROMIUM = shutil.which('chromium') or shutil.which('google-chrome')


@pytest.fixture(scope='module')
def page(finished_workdir):
  return (finished_workdir / 'report' / 'index.html').read_text()


@pytest.fixture(scope='module')
def metrics(finished_workdir):
  return json.loads((finished_workdir / 'report' / 'metrics.json').read_text())


class Links(html.parser.HTMLParser):
  """Everything that a page would load or lead to."""

  def __init__(self, text):
    super().__init__()
    self.found = []
    self.feed(text)

  def handle_starttag(self, tag, attrs):
    self.found += [v for k, v in attrs if k in ('src', 'href', 'action')]


def test_it_needs_nothing_but_itself(page):
  links = Links(page).found
  assert len(links) > 10
  assert all(link.startswith('data:image/') for link in links)
  style = page.partition('<style>')[2].partition('</style>')[0]
  assert 'url(' not in style and '@import' not in style


def test_it_has_the_accuracy_of_every_network(page, metrics):
  for value in metrics['accuracy'].values():
    assert f'<td>{100 * value:.2f}</td>' in page
  assert 'IMPACTX, λ = 0' in page


def test_it_has_every_measure_with_its_interval(page, metrics):
  for by_name in metrics['maps']['measures'].values():
    for found in by_name.values():
      assert f'{found["mean"]:.3f}<small>' in page
  low, high = metrics['maps']['measures']['morf_area']['impactx']['interval']
  assert f'{low:.3f} to {high:.3f}' in page


def test_it_says_that_the_map_is_a_prediction(page):
  assert 'map is a prediction, learned from maps of the true' in page


def test_it_has_the_config_and_the_commands(page, finished_workdir):
  assert '&#34;max_evals&#34;: 40' in page
  summary = json.loads(
      (finished_workdir / 'impactx' / 'summary.json').read_text()
  )
  assert summary['provenance']['command'][0] in page


def render(metrics, **changes):
  """The page of a method without maps."""
  metrics = {name: x for name, x in metrics.items() if name != 'maps'}
  return page_lib.render(**{
      'metrics': metrics,
      'measured': None,
      'by_class': figures.per_class({'baseline': np.ones(2)}, ('a', 'b')),
      'histories': {'baseline': [{'validation/accuracy': 0.5}]},
      'config': {},
      'commands': [],
      'about_map': '',
  } | changes)


def test_what_the_user_wrote_is_not_taken_for_markup(metrics):
  data = {**metrics['data'], 'class_names': ['<script>alert(1)</script>'] * 10}
  text = render(
      metrics | {'data': data},
      config={'name': '<b>'},
      commands=[('impactx', '--workdir=<i>')],
      about_map='It is <a> prediction.',
  )
  assert '<script>alert' not in text and '<b>' not in text
  assert '<i>' not in text and '<a>' not in text
  assert '&lt;b&gt;' in text and '&lt;i&gt;' in text


def test_what_else_a_task_measures_has_columns_of_its_own(metrics):
  assert '<th>F1</th>' not in render(metrics)
  by_network = dict.fromkeys(metrics['accuracy'], 0.125)
  text = render(metrics | {'f1': by_network, 'mean_average_precision': {
      name: 0.375 for name in by_network
  }})
  assert '<th>F1</th><th>mAP</th><th>map R2</th>' in text
  row = '<td>0.125</td><td>0.375</td>'
  assert text.count(row) == len(by_network) == 3


def test_groups_have_a_table_of_their_own(metrics):
  assert 'each group' not in render(metrics)
  groups = {name: {'on land': 0.5, 'on water': 0.25} for name in
            metrics['accuracy']}
  text = render(metrics | {'group_accuracy': groups, 'worst_group_accuracy': {
      name: 0.25 for name in groups
  }})
  assert '<th>worst group %</th>' in text
  assert '<th>on land</th><th>on water</th>' in text
  assert text.count('<td>50.00</td><td>25.00</td>') == len(groups)


def run_in_browser(page, tmp_path, script):
  """Returns the page's HTML after a script has run in Chromium."""
  path = tmp_path / 'index.html'
  path.write_text(page.replace('</body>', f'<script>{script}</script></body>'))
  found = subprocess.run(
      [
          CHROMIUM, '--headless', '--no-sandbox', '--disable-gpu',
          '--virtual-time-budget=4000', '--window-size=400,900',
          '--dump-dom', f'file://{path}',
      ],
      capture_output=True, text=True, timeout=120, check=True,
  )
  return found.stdout


@pytest.mark.skipif(CHROMIUM is None, reason='there is no Chromium')
def test_the_gallery_is_filtered_in_a_browser(page, tmp_path):
  script = '''
    const out = {};
    const count = () => document.querySelectorAll('.card:not([hidden])').length;
    out.all = count();
    const right = document.getElementById('right');
    for (const value of ['true', 'false']) {
      right.value = value;
      right.dispatchEvent(new Event('change'));
      out[value] = count();
    }
    right.value = '';
    const chosen = document.getElementById('class');
    const name = document.querySelector('.card').dataset.class;
    chosen.value = name;
    chosen.dispatchEvent(new Event('change'));
    out.one = count();
    out.expected = [...document.querySelectorAll('.card')]
        .filter(card => card.dataset.class === name).length;
    out.broken = [...document.images].filter(i => !i.naturalWidth).length;
    out.images = document.images.length;
    const root = document.documentElement;
    out.sideways = root.scrollWidth - root.clientWidth;
    document.title = JSON.stringify(out);
  '''
  text = run_in_browser(
      page, tmp_path, f"addEventListener('load', () => {{{script}}})"
  )
  out = json.loads(re.search('<title>(.*?)</title>', text)[1])
  assert out['all'] == out['true'] + out['false'] == 8
  assert 1 <= out['one'] == out['expected'] <= 8
  assert out['images'] > 30 and not out['broken']
  assert out['sideways'] == 0  # Nothing makes a phone scroll sideways.
