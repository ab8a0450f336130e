"""`nuclass plan`: the jobs of a run, their memory, hours and files, before anything is downloaded or run."""
