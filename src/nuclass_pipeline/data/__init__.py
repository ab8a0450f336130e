"""From raw slides to cells, one image per slide, windows into it, and parts."""
