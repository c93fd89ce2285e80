"""The results folder: what is kept, how it is read and written."""
