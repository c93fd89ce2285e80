"""torchvision's classifiers, with the preprocessing and category names of their weights."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from urllib.error import URLError

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from camreport.errors import ModelError, suggestion
from camreport.images import Preprocessing
from camreport.models.bundled import BUNDLED
from camreport.models.loaded import LoadedModel, state_sha256


def load_torchvision(name: str) -> LoadedModel:
    """Load a torchvision classifier with its default weights, downloading them if needed.

    Raises:
        ModelError: no such classifier, or its weights can be neither found nor downloaded.
    """
    weights = default_weights(name)
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:  # torchvision unpickles whatever lies there: read it once without running code
        weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
        module = models.get_model(name, weights=weights)
    except (URLError, OSError) as error:
        raise ModelError(
            f"model: the weights of {name} cannot be downloaded ({error}). Get {weights.url} on "
            f"another machine and put it into {file.parent}"
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"model: {file} does not hold the weights of {name}, or is damaged. Delete it, or "
            f"replace it by {weights.url}"
        ) from error
    return LoadedModel(
        module=module.eval(),
        preprocessing=preprocessing_of(weights),
        class_names=tuple(weights.meta["categories"]),
        name=name,
        source=f"torchvision, {weights}",
        sha256=state_sha256(module),
    )


def default_weights(name: str) -> WeightsEnum:
    """Return a torchvision classifier's default weights entry.

    Raises:
        ModelError: torchvision has no classifier of that name.
    """
    classifiers = models.list_models(module=models)
    if name not in classifiers:
        raise ModelError(
            f"model: expected {BUNDLED!r} or a torchvision classifier, got {name!r}."
            + (suggestion(name, [BUNDLED, *classifiers]) or " For instance 'resnet18'.")
        )
    weights: WeightsEnum = models.get_model_weights(name).DEFAULT
    return weights


def preprocessing_of(weights: WeightsEnum) -> Preprocessing:
    """Return the preprocessing that a weights entry's transform does."""
    transform = weights.transforms()
    height = transform.crop_size[0]
    return Preprocessing(
        size=(height, height),
        resize="short-side",
        short_side=transform.resize_size[0],
        interpolation=transform.interpolation.value,
        mean=tuple(transform.mean),
        std=tuple(transform.std),
    )


def count_classes(name: str, state: Mapping[str, Tensor]) -> int:
    """Return how many classes a state dict for a torchvision classifier has.

    Raises:
        ModelError: its last layer is not in the state dict.
    """
    with torch.device("meta"):
        head = [key for key in untrained(name, 2).state_dict() if key.endswith("weight")][-1]
    if head not in state or not len(state[head]):
        raise ModelError(
            f"expected the weights of {name}, but {head} is missing. "
            "Is --model the right architecture?"
        )
    return int(state[head].shape[0])


def untrained(name: str, num_classes: int) -> nn.Module:
    """Return a torchvision classifier of that many classes, with arbitrary weights."""
    module: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return module
