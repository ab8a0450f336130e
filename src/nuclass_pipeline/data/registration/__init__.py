"""Checks that the H&E lies on the cells."""
