"""Methods compared over seeds, and grids searched."""
