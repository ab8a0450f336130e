"""The run file: its sections, and the run they describe."""
