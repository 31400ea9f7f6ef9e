"""The attribution service: from a scoring function to maps in shards."""
