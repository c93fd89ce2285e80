"""The gallery: a results folder becomes a report that needs no network and no server."""

from camreport.report.gallery.page import DEFAULT_LIMITS, Limits
from camreport.report.gallery.render import check_rendering, printable, render_gallery
from camreport.settings import Layout

__all__ = ["DEFAULT_LIMITS", "Layout", "Limits", "check_rendering", "printable", "render_gallery"]
