"""`python -m nuclass_pipeline.cli` is `nuclass`."""

from nuclass_pipeline.cli import main

main()
