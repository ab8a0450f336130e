"""Spatial domains: neighbourhoods of similar programmes, found by hybrid-graph smoothed non-negative matrix factorisation (hSNMF)."""
