"""Per-cell classification of H&E, taught by Xenium: the package behind the workflow."""

import os

__version__ = "0.1.0"

# OpenMP reads this once, when the first library brings it in. Its default, spinning, makes small models a hundred times
# slower whenever another process wants the same core.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
