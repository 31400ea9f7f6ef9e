"""What the paper reports, to print beside what is measured here."""

# Test accuracy in per cent (IMPACTX, table 2), by data set and backbone.
TABLE_2 = {
    ('cifar10', 'lenet5'): (67.96, 70.65, 68.49, 68.10),
    ('cifar10', 'mobilenet'): (94.63, 96.27, 95.41, 94.75),
    ('cifar10', 'efficientnet_b2'): (98.06, 98.38, 98.19, 98.08),
    ('cifar100', 'lenet5'): (36.23, 39.49, 37.62, 36.20),
    ('cifar100', 'mobilenet'): (76.72, 79.37, 78.24, 76.98),
    ('cifar100', 'efficientnet_b2'): (87.88, 89.06, 88.89, 88.27),
    ('stl10', 'lenet5'): (52.59, 55.86, 53.36, 52.99),
    ('stl10', 'mobilenet'): (91.07, 95.79, 92.71, 91.42),
    ('stl10', 'efficientnet_b2'): (98.76, 99.00, 98.59, 98.65),
}
METHODS = ('baseline', 'impactx', 'abn', 'wae')


def accuracy(data: str, model: str, method: str) -> float | None:
  """Returns the paper's accuracy in per cent, None where it has none."""
  row = TABLE_2.get((data, model))
  if row is None or method not in METHODS:
    return None
  return row[METHODS.index(method)]
