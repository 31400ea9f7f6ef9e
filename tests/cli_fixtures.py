"""Programs run as from the command line, in the process of the test."""

import contextlib
import sys

from absl import flags
from absl.testing import flagsaver
from impactx_jax.commands import cli
import pytest


@contextlib.contextmanager
def running(monkeypatch):
  """Gives run(program, *arguments), which runs a program in this process."""
  saved = flagsaver.save_flag_values(flags.FLAGS)

  # absl's own ends the process.
  monkeypatch.setattr(
      cli.app, 'run', lambda main, flags_parser: main(flags_parser(sys.argv))
  )

  def run(program, *arguments):
    monkeypatch.setattr(sys, 'argv', ['impactx', *arguments])
    program.run()

  try:
    yield run
  finally:
    flagsaver.restore_flag_values(saved, flags.FLAGS)
    flags.FLAGS.unparse_flags()


@pytest.fixture
def in_process(monkeypatch):
  with running(monkeypatch) as run:
    yield run
