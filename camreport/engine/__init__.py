"""The engine: computes the raw maps of one batch of images."""
