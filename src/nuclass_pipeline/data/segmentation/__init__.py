"""Nuclei of an H&E without Xenium."""
