"""Encoders, the two paths, the gate, and the files they are kept in."""
