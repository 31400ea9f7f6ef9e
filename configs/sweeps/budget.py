"""Stage two's accuracy against the cost of its maps.

  impactx-sweep --sweep=budget --config=cifar10_lenet5 --workdir=DIR \
      --config.data.data_dir=DATA_DIR

Evaluations of shap's tree, then a grid's cells; beside them lambda = 0, which
learns nothing of its maps. The classifier is shared, in DIR/shared or
--config.classifier.workdir; each trial makes its own maps.

On 10,000 images of CIFAR-10 the budget made no difference, and none to
lambda = 0: five seeds of each are between 69.9 and 70.1 %
(docs/results/budget.md).
"""


def get_sweep():
  """Returns the stage that is trained, and the values of each field."""
  return {
      'stage': 'impactx',
      'grid': [
          {'method.lambda_': [0.0], 'attribution.max_evals': [250]},
          {
              'attribution.explainer': ['partition'],
              'attribution.max_evals': [250, 500, 1000, 2000],
          },
          {
              'attribution.explainer': ['partition_grid'],
              'attribution.grid': [4, 8],
          },
      ],
  }
