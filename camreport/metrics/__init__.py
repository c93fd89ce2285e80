"""Evidence: measures of how much a map deserves belief; pure functions of arrays."""

# Modules register their metrics as they are imported: this is the order of the table.
from camreport.metrics import (  # noqa: F401 # isort: skip
    contrast,
    effect,
    order,
    grid,
    learned,
    stability,
    extent,
    regions,
    classic,
)
from camreport.metrics.registry import METRICS, Metric, Number, metric, resolve_metrics

__all__ = ["METRICS", "Metric", "Number", "metric", "resolve_metrics"]
