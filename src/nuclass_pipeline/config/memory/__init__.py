"""Memory of jobs, computed before they run: sizes of the slides, one formula per rule, and what a job requests."""
