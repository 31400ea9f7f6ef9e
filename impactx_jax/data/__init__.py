"""Data: TFDS in, batches out."""
