"""The H&E in figures: images from tables with scale bars and marks, and maps of cells on tissue."""
