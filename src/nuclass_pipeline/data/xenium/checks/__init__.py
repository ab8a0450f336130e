"""Checks of a bundle: cells that cannot be, and files that contradict each other."""
