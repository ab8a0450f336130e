"""Functional programmes: the gene sets that set a cluster apart, or the statement that none does."""
