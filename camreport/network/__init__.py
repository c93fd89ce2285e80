"""The user's network: its layers, its code and its outputs. Nothing here computes maps."""
