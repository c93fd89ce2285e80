"""Evidence for the maps of a run: passes over changed images and weights, and their metrics."""
