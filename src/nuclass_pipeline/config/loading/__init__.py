"""How a run file is read and checked before any job."""
