"""From expression to a label per cell, by evidence."""
