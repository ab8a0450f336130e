"""Marker sources: readers of the user's downloads, and one marker table from all of them."""
