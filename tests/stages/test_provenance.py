"""What is written beside every result."""

import pathlib
import subprocess

from impactx_jax.stages import provenance
import pytest

ROOT = pathlib.Path(__file__).parents[2]


def test_of_a_checkout_the_commit_is_known():
  if not (ROOT / '.git').exists():
    pytest.skip('Not a checkout.')
  commit = subprocess.run(
      ['git', '-C', str(ROOT), 'rev-parse', 'HEAD'],
      capture_output=True, text=True, check=True,
  ).stdout.strip()
  assert provenance.collect()['git'].rstrip('+') == commit
