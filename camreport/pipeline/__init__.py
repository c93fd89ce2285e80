"""Many images: from files to a results folder."""
