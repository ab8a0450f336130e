"""Figures: one module each, drawn from tables only."""
