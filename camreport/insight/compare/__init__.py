"""Two or more runs of the same images: what changed, by how much, and how sure that is."""
