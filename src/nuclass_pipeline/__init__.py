"""Per-cell classification of H&E, taught by Xenium: the package behind the workflow."""

__version__ = "0.1.0"
