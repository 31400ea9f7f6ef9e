"""The attribution service: from a scoring function to maps in shards.

`Explainer`, `explain` and `learn` are for any JAX model; the rest is what a
training run needs.
"""

from attribution.explainer import explain as explain
from attribution.explainer import Explainer as Explainer
from attribution.explainers import Layers as Layers
from attribution.learning import Learned as Learned
from attribution.learning import learn as learn
from attribution.plotting import plot as plot
from attribution.writing import read_maps as read_maps
from attribution.writing import write_maps as write_maps
