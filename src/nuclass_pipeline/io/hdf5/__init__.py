"""HDF5 files: what they may hold, and the patch files among them."""
