"""Image encoders: the registry, the section of a run file that names one, and the files of its weights."""
