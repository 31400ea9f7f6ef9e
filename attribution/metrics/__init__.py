"""Measures of attribution maps: pure functions of arrays."""
