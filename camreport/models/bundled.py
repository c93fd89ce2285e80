"""The model that comes with the package: an AlexNet that classifies cats and dogs."""

import hashlib
from pathlib import Path

import safetensors.torch
import torch

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import message
from camreport.models.alexnet import AlexNet
from camreport.models.loaded import LoadedModel
from camreport.models.state import load_state
from camreport.settings import BUNDLED

WEIGHTS_FILE = Path(__file__).with_name("catdog_alexnet.safetensors")
WEIGHTS_SHA256 = "a689b1ddb6e0588e0819510a2a2462e86e599cf09eaccb365d3144a29c599366"


def load_bundled() -> LoadedModel:
    """Return ``catdog-alexnet``: two classes, 0 cat and 1 dog, 224 × 224 px, float32.

    Raises:
        ModelError: the weights file is missing, or is not the released one.
    """
    try:
        data = WEIGHTS_FILE.read_bytes()
    except OSError as error:
        raise ModelError(
            f"model: {BUNDLED}'s weights {WEIGHTS_FILE.name} cannot be read ({error.strerror}). "
            "Install camreport again."
        ) from error
    sha256 = hashlib.sha256(data).hexdigest()
    if sha256 != WEIGHTS_SHA256:
        raise ModelError(
            f"model: {BUNDLED}'s weights {WEIGHTS_FILE.name} are damaged: expected sha256 "
            f"{WEIGHTS_SHA256[:12]}…, got {sha256[:12]}…. Install camreport again."
        )
    state = safetensors.torch.load(data)
    with torch.device("meta"):  # the state dict brings all values
        module = AlexNet(num_classes=2, hidden=256)
    load_state(module, state, BUNDLED)
    return LoadedModel(
        module=module,
        preprocessing=Preprocessing(),
        class_names=("cat", "dog"),
        name=BUNDLED,
        source=message("models.from_bundled"),
        sha256=sha256,
    )
