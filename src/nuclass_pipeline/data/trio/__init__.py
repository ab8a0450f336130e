"""Patch datasets: annotations and two patch files, imported as a slide, written as copies, and listed in the slide sheet."""
