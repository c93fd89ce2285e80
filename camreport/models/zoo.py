"""torchvision's classifiers, with the preprocessing and category names of their weights."""

from pathlib import Path
from urllib.error import URLError

import torch
from torch import nn
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
    try:
        module = models.get_model(name, weights=weights)
    except (URLError, OSError) as error:
        raise ModelError(
            f"model: the weights of {name} cannot be downloaded ({error}). Get {weights.url} on "
            f"another machine and put it into {file.parent}"
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


def untrained(name: str, num_classes: int) -> nn.Module:
    """Return a torchvision classifier of that many classes, with arbitrary weights."""
    module: nn.Module = models.get_model(name, weights=None, num_classes=num_classes)
    return module
