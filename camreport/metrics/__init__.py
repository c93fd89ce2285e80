"""Evidence: measures of how much a map deserves belief; pure functions of arrays."""

# Modules register their metrics as they are imported: this is the order of the table, which is
# contrast, effect, order, grid, learned, stability, extent, regions, then average_drop and road.
from camreport.metrics import effect, order, classic  # noqa: F401 # isort: skip
from camreport.metrics.registry import METRICS, Metric, Number, metric, resolve_metrics

__all__ = ["METRICS", "Metric", "Number", "metric", "resolve_metrics"]
