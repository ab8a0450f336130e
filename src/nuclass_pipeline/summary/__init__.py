"""Tables that describe slides: cohort and registration."""
