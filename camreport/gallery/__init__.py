"""The gallery: a results folder becomes a report that needs no network and no server."""

from camreport.gallery.folder import check_data
from camreport.gallery.language import check_language
from camreport.gallery.render import Layout, printable, render_gallery

__all__ = ["Layout", "check_data", "check_language", "printable", "render_gallery"]
