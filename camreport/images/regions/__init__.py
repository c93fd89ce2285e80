"""Regions of photographs: where their objects are, read from files and carried to the model."""
