"""Evidence: measures of how much a map deserves belief; pure functions of arrays."""
