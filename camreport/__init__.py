"""Class-activation maps of a CNN for every image, layer, class and method at once.

The names in ``__all__`` are public: what is written against them keeps working. Everything else is
internal. They are loaded when they are first used, so that ``import camreport`` (and with it
``camreport --help``) does not import torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from camreport.version import __version__ as __version__

__all__ = [
    "CamReportError",
    "Evaluation",
    "Explainer",
    "Explanation",
    "LoadedModel",
    "Results",
    "Settings",
    "Summary",
    "compare",
    "evaluate",
    "explain",
    "load_model",
    "load_results",
    "overlay",
    "run",
]

if TYPE_CHECKING:
    from camreport.api import compare, run
    from camreport.engine.explain import explain
    from camreport.engine.explainer import Explainer
    from camreport.engine.explanation import Explanation
    from camreport.errors import CamReportError
    from camreport.models import LoadedModel, load_model
    from camreport.pipeline.evidence.evaluate import Evaluation, evaluate
    from camreport.pipeline.records import Summary
    from camreport.report.heatmap import overlay
    from camreport.results.reader import Results, load_results
    from camreport.settings import Settings

_HOMES = {
    "CamReportError": "errors",
    "Evaluation": "pipeline.evidence.evaluate",
    "Explainer": "engine.explainer",
    "Explanation": "engine.explanation",
    "LoadedModel": "models",
    "Results": "results.reader",
    "Settings": "settings",
    "Summary": "pipeline.records",
    "compare": "api",
    "evaluate": "pipeline.evidence.evaluate",
    "explain": "engine.explain",
    "load_model": "models",
    "load_results": "results.reader",
    "overlay": "report.heatmap",
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
