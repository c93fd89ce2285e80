"""One batch: from images to raw maps."""
