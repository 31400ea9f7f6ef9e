"""The attribution service: from a scoring function to maps in shards.

What this module names is for any JAX model: `explain`, `Explainer` and `learn`
make maps, `write_maps` and `read_maps` keep them, `plot` shows them, `measure`
says what they are worth. The rest is what a training run needs.
"""

from attribution.explainer import explain as explain
from attribution.explainer import Explainer as Explainer
from attribution.explainers import Layers as Layers
from attribution.learning import Learned as Learned
from attribution.learning import learn as learn
from attribution.measured import MeasuredMaps as MeasuredMaps
from attribution.measuring import measure as measure
from attribution.plotting import plot as plot
from attribution.writing import read_maps as read_maps
from attribution.writing import write_maps as write_maps
