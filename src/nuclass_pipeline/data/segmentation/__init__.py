"""Segmentation of nuclei: of an H&E without Xenium, and of samples of an H&E to check its registration."""
