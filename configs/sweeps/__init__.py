"""Grids to search, by `impactx-sweep`; a file each."""
