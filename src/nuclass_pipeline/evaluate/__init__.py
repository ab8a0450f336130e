"""Scores, calibration, comparison and explanation of the trained models."""
