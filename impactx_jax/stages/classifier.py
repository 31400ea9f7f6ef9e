"""Stage one: trains A on the training split."""

from impactx_jax import methods
from impactx_jax.stages import runs as run_lib
from impactx_jax.stages import trained
from impactx_jax.stages import training_run
from impactx_jax.stages.runs import Run


def train_classifier(run: Run) -> None:
  """Trains A, unless it is trained, or taken from another workdir.

  Raises:
    InputError: if it is to be taken, and is not there.
  """
  if not run.trains_classifier:
    run_lib.classifier_summary(run)
    return
  if run.classifier.is_done(run.config):
    return
  dataset = run_lib.dataset(run)
  data = dataset.fingerprint()
  training_run.train(
      run,
      methods.BASELINE,
      trained.problem_of(data),
      dataset.columns(),
      data=data,
      made_from={},
  )
