"""Tables: one module each, built from metrics only."""
