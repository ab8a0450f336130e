"""Functional programs: the gene sets that set a cluster apart, or the reason why none is reliable."""
