"""Spatial domains: neighbourhoods of similar expression, found by hybrid-graph smoothed non-negative matrix factorisation (hSNMF)."""
