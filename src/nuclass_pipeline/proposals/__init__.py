"""Labels proposed for clusters, with their evidence, for a person to review."""
