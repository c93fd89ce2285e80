"""Where a model comes from: bundled, torchvision, timm, a package, a file, a user's own code."""

from camreport.models.load import load_model
from camreport.models.loaded import LoadedModel

__all__ = ["LoadedModel", "load_model"]
