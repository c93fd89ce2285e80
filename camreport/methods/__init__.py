"""CAM methods: pure functions, and the one table that lists them."""

# Modules register their methods as they are imported: this is the order of the table.
from camreport.methods import gradient, activation, backprop, perturbation  # noqa: F401 # isort: skip
from camreport.methods.registry import (
    DEFAULT_METHODS,
    METHODS,
    Method,
    Requirement,
    resolve_methods,
)

__all__ = ["DEFAULT_METHODS", "METHODS", "Method", "Requirement", "resolve_methods"]
