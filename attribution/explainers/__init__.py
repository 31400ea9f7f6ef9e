"""Explainers: a scoring function in, attribution maps out.

Every entry of EXPLAINERS is a factory with the same keyword arguments,

  factory(score_fn, *, masker, blur_kernel, mask_value, max_evals, batch_size,
          seed) -> explain

and `explain(images, labels)` takes float32 images [N, H, W, C] in [0, 1] for
any N. Labels int [N] give maps float32 [N, H, W, C] of those classes; labels
int [N, K'] give maps [N, H, W, C, K'] of K' classes in one pass. A new
explainer is one new file and one line here.
"""

from collections.abc import Callable

from attribution.explainers.shap_partition import shap_partition
import numpy as np

Explain = Callable[[np.ndarray, np.ndarray], np.ndarray]

EXPLAINERS: dict[str, Callable[..., Explain]] = {
    'shap_partition': shap_partition,
}
