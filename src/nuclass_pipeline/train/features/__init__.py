"""Features of frozen networks, computed once per slide."""
