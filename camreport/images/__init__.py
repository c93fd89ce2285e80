"""From files to model inputs, and the way back."""
