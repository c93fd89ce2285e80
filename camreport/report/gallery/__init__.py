"""The gallery: a results folder becomes a report that needs no network and no server."""

from camreport.report.gallery.render import Layout, check_rendering, printable, render_gallery

__all__ = ["Layout", "check_rendering", "printable", "render_gallery"]
