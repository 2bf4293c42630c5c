"""Where objects live: the ObjectStore seam and the stores behind it."""
