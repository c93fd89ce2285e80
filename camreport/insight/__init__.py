"""What a whole run says: numbers of every map, and their aggregates over the images."""
