"""From results to something to look at; no torch here."""
