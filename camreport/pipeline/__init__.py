"""The pipeline: computes a results folder from many image files."""
