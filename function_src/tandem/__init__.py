"""Tandem's replicator: it keeps the buckets that a rule names in step."""
