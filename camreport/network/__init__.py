"""The user's network, watched and understood; no maps here."""
