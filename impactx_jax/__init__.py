"""IMPACTX in JAX and Flax: classifiers that learn from their explanations."""

__version__ = '0.1.0'
