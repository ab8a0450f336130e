"""Labels: one cell type per cell from its expression, with a confidence, or Unresolved."""
