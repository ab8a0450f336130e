"""Images with a point and a class for each cell: laid out as one slide, and imported from public layouts."""
