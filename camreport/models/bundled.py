"""The model that comes with the package: an AlexNet that tells cats from dogs."""

import hashlib
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn
from torchvision.models import AlexNet

from camreport.errors import ModelError
from camreport.images import Preprocessing
from camreport.models.loaded import LoadedModel

BUNDLED = "catdog-alexnet"
"""Name of the bundled model."""

WEIGHTS_FILE = Path(__file__).with_name("catdog_alexnet.safetensors")
WEIGHTS_SHA256 = "a689b1ddb6e0588e0819510a2a2462e86e599cf09eaccb365d3144a29c599366"


def load_bundled() -> LoadedModel:
    """Load ``catdog-alexnet``: two classes, 0 cat and 1 dog, 224 × 224 px, float32.

    Raises:
        ModelError: the weights file is missing or not the one that was released.
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
    return LoadedModel(
        module=alexnet_from_state(safetensors.torch.load(data)),
        preprocessing=Preprocessing(),
        class_names=("cat", "dog"),
        name=BUNDLED,
        source="bundled with camreport, trained on Dogs vs. Cats",
        sha256=sha256,
    )


def alexnet_from_state(state: dict[str, Tensor]) -> AlexNet:
    """Rebuild torchvision's AlexNet with the classifier widths found in its tensors.

    Args:
        state: a full AlexNet state dict, any float dtype; the result is float32.

    Raises:
        ModelError: tensors are missing, unexpected or do not fit together.
    """
    try:
        first, second, last = (state[f"classifier.{index}.weight"] for index in (1, 4, 6))
    except KeyError as error:
        raise ModelError(
            f"weights: expected an AlexNet's, but {error} is missing. Is it another architecture? "
            "Name it with --model."
        ) from error
    if any(matrix.ndim != 2 for matrix in (first, second, last)):
        raise ModelError("weights: expected an AlexNet's, but its classifier is not of matrices.")
    with torch.device("meta"):  # the tensors come from the file: initialise nothing
        model = AlexNet(num_classes=last.shape[0])
        model.classifier[1] = nn.Linear(first.shape[1], first.shape[0])
        model.classifier[4] = nn.Linear(second.shape[1], second.shape[0])
        model.classifier[6] = nn.Linear(last.shape[1], last.shape[0])
    load_state(model, state)
    return model


def load_state(model: nn.Module, state: dict[str, Tensor]) -> None:
    """Put a state dict into a module, in float32, and set the module to evaluation mode.

    Raises:
        ModelError: keys are missing, unexpected or of another shape; the first few are named.
    """
    own = model.state_dict()
    troubles = {
        "missing": [key for key in own if key not in state],
        "unexpected": [key for key in state if key not in own],
        "of another shape": [
            f"{key} {tuple(state[key].shape)} instead of {tuple(own[key].shape)}"
            for key in own
            if key in state and own[key].shape != state[key].shape
        ],
    }
    found = [f"{_first(keys)} {kind}" for kind, keys in troubles.items() if keys]
    if found:
        raise ModelError(
            f"weights: expected those of {type(model).__name__}, got a file with "
            f"{'; '.join(found)}. Is --model the right architecture?"
        )
    tensors = {k: t.float() if t.is_floating_point() else t for k, t in state.items()}
    model.load_state_dict(tensors, assign=True)
    model.eval()


def _first(keys: list[str], count: int = 3) -> str:
    rest = f" and {len(keys) - count} more" if len(keys) > count else ""
    return ", ".join(keys[:count]) + rest
