"""What the counts say of a slide: clusters, markers, domains, programs."""
