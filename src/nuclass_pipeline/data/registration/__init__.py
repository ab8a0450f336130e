"""Registration: checks that the H&E is aligned with the cells."""
