"""camreport: where a CNN looks, for every image, layer, class and method at once.

The names below are loaded when they are first used, so that ``import camreport`` (and with it
``camreport --help``) does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "CamReportError",
    "Explanation",
    "LoadedModel",
    "Results",
    "Summary",
    "explain",
    "load_model",
    "load_results",
    "overlay",
    "run",
]

if TYPE_CHECKING:
    from camreport.api import run
    from camreport.engine import Explanation, explain
    from camreport.errors import CamReportError
    from camreport.heatmap import overlay
    from camreport.models import LoadedModel, load_model
    from camreport.pipeline import Summary
    from camreport.results import Results, load_results

_HOMES = {
    "CamReportError": "errors",
    "Explanation": "engine",
    "LoadedModel": "models",
    "Results": "results",
    "Summary": "pipeline",
    "explain": "engine",
    "load_model": "models",
    "load_results": "results",
    "overlay": "heatmap",
    "run": "api",
}


def __getattr__(name: str) -> object:
    """Load a public name from its module."""
    if name not in _HOMES:
        raise AttributeError(f"module 'camreport' has no attribute {name!r}")
    return getattr(import_module(f"camreport.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return sorted([*__all__, "__version__"])
