"""Encoders, the two paths, the gate, and their checkpoints."""
