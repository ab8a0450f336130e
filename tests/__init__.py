"""Tests of the package, of the workflow, and of the house rules."""

from pathlib import Path

ROOT = Path(__file__).parents[1]
