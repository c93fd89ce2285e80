"""The gallery: a results folder becomes one HTML file that needs nothing else."""

from camreport.gallery.render import render_gallery

__all__ = ["render_gallery"]
