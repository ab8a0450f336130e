"""What is computed from the counts of a slide: clusters, markers, domains, programs."""
