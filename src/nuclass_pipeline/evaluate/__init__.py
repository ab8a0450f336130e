"""Predictions of the trained models, their calibration, scores, comparison and explanation."""
