"""CAM methods: pure functions, and the one table that lists them."""

from camreport.methods.registry import DEFAULT_METHODS, METHODS, Method, Need, resolve_methods

__all__ = ["DEFAULT_METHODS", "METHODS", "Method", "Need", "resolve_methods"]
