"""Reading Xenium bundles of every release: cells, matrix, transcripts, outlines, archives, downloads."""
