"""Marker sources: readers of the user's downloads, the one table of evidence they give, and how it becomes markers."""
