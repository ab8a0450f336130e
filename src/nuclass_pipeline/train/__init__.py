"""Training of the two paths and the gate, and the features of frozen encoders."""
