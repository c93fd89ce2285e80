"""The results folder: its contents, and how it is read and written."""
