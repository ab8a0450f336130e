"""The kinds of gates, and what both are trained on."""
