"""Counts of cells from programs other than Xenium's: AnnData, 10x matrices, CSV, CosMx and MERSCOPE."""
