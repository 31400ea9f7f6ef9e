"""Recipes: a file each, all built from `common.get_config`."""
