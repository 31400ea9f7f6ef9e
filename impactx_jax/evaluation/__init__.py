"""Trained networks measured: accuracy and maps."""
