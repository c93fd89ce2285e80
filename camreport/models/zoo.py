"""torchvision's classifiers, with the preprocessing and category names of their weights."""

import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from urllib.error import URLError
from urllib.request import Request, urlopen

import torch
from torch import Tensor, nn
from torchvision import models
from torchvision.models import WeightsEnum

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import message
from camreport.models.loaded import (
    CONNECT_SECONDS,
    Architecture,
    LoadedModel,
    state_sha256,
    with_random_weights,
)
from camreport.models.state import class_count, misfits
from camreport.settings import unknown_model

_FAMILIES = {
    "features.0.weight": (
        "alexnet",
        *("vgg16", "vgg11", "vgg13", "vgg19", "vgg16_bn", "vgg11_bn", "vgg13_bn", "vgg19_bn"),
    ),
    "conv1.weight": (
        *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
        *("resnext50_32x4d", "resnext101_32x8d", "resnext101_64x4d"),
        *("wide_resnet50_2", "wide_resnet101_2"),
    ),
}
"""Classifiers that are recognised from a state dict, by the name of their first tensor."""

_HEADS = ("classifier", "fc", "head", "heads")
_WITH_AUXILIARY = ("googlenet", "inception_v3")
_AUXILIARY = ("aux1.", "aux2.", "AuxLogits.")
_OLD_NAMES = (
    (re.compile(r"(denselayer\d+\.(?:norm|relu|conv))\.([12]\.)"), r"\1\2"),  # DenseNet
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_1\."), r"\g<1>0."),  # ViT
    (re.compile(r"(encoder_layer_\d+\.mlp\.)linear_2\."), r"\g<1>3."),
)
_FIRST_STEM = (32, 3, 3, 3)
"""Shape of the first tensor of every MNASNet of torchvision's first version."""


def load_torchvision(name: str, weights: str = "default") -> LoadedModel:
    """Load a torchvision classifier with its default weights, downloading them if needed.

    Args:
        name: for instance ``resnet18``.
        weights: ``default``, or ``none`` for random ones.

    Raises:
        ModelError: no such classifier, or its weights cannot be downloaded or are damaged.
    """
    entry = default_weights(name)
    if weights == "none":
        count = len(entry.meta["categories"])
        architecture = torchvision_architecture(name)
        return with_random_weights(
            architecture, "torchvision", count, lambda: _with_random_head(untrained(name, count))
        )
    file = Path(torch.hub.get_dir()) / "checkpoints" / Path(entry.url).name
    try:  # torchvision unpickles the file: read it once without running code
        if not file.exists():
            _ask_for(entry.url)
        entry.get_state_dict(progress=True, check_hash=True, weights_only=True)
        module = models.get_model(name, weights=entry)
    except (URLError, OSError) as error:
        raise ModelError(
            f"model: the weights of {name} could not be downloaded ({error}). Get {entry.url} on "
            f"another machine and put the file {file.name} into {file.parent}, or see the "
            "architecture at work with --weights none."
        ) from error
    except (RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError) as error:
        raise ModelError(
            f"model: {file} does not hold the weights of {name}, or is damaged. Delete it, or "
            f"replace it by {entry.url}"
        ) from error
    return LoadedModel(
        module=module.eval(),
        preprocessing=preprocessing_of(entry),
        class_names=tuple(entry.meta["categories"]),
        name=name,
        source=message("models.from_torchvision", weights=str(entry)),
        sha256=state_sha256(module),
    )


def _ask_for(url: str) -> None:
    """Ask a server for a file's header, because torch itself waits for an answer without limit.

    Raises:
        OSError: no answer within ``CONNECT_SECONDS``, or no such file.
    """
    with urlopen(Request(url, method="HEAD"), timeout=CONNECT_SECONDS):
        pass


def torchvision_architecture(name: str) -> Architecture:
    """Return one of torchvision's classifiers.

    Raises:
        ModelError: torchvision has no classifier of that name.
    """
    return Architecture(
        name=name,
        preprocessing=preprocessing_of(default_weights(name)),
        build=partial(build_torchvision, name),
        preprocessing_source=message("models.preprocessing_of_architecture", model=name),
        current_names=_current_names,
        notes=((message("models.input_rescaled", model=name),) if name in _WITH_AUXILIARY else ()),
    )


def default_weights(name: str) -> WeightsEnum:
    """Return a torchvision classifier's default weights entry.

    Raises:
        ModelError: torchvision has no classifier of that name.
    """
    classifiers = models.list_models(module=models)
    if name not in classifiers:
        raise unknown_model(name, classifiers)
    weights: WeightsEnum = models.get_model_weights(name).DEFAULT
    return weights


def preprocessing_of(weights: WeightsEnum) -> Preprocessing:
    """Return the preprocessing of a weights entry's transform."""
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


def family_preprocessing(module: nn.Module) -> Preprocessing | None:
    """Return the preprocessing of the first torchvision classifier built by the module's code."""
    for name in models.list_models(module=models):
        if models.get_model_builder(name).__module__ == type(module).__module__:
            return preprocessing_of(default_weights(name))
    return None


def guess_architecture(states: Sequence[dict[str, Tensor]]) -> tuple[str, dict[str, Tensor]]:
    """Find the AlexNet, VGG or ResNet that a state dict fits, by its keys and shapes.

    Args:
        states: the state dict as it is, and without the prefixes of wrappers.

    Returns:
        the classifier's name, and the state dict that fits it.

    Raises:
        ModelError: it fits none; the message names the nearest and what does not fit.
    """
    for state in states:
        for name in _candidates(state):
            if not _body_fits(name, state):
                continue
            try:
                own = _shaped_like(name, state, torch.device("meta"))
            except ModelError:  # another head
                continue
            if not misfits(own, state):
                return name, state
    keys = ", ".join(list(states[-1])[:3])
    raise ModelError(
        f"expected the weights of an AlexNet, VGG or ResNet, got others ({keys}, …). "
        f"{_nearest(states)}"
        "Name the architecture with --model: a torchvision name, timm:NAME, or file.py:build for "
        "code of your own."
    )


def _candidates(state: Mapping[str, Tensor]) -> list[str]:
    """Return the recognised classifiers whose first tensor's name is in a state dict."""
    return [name for first, names in _FAMILIES.items() if first in state for name in names]


@cache
def _shapes_of(name: str) -> Mapping[str, torch.Size]:
    """Return the shapes of the tensors of a recognised classifier with two classes."""
    with torch.device("meta"):
        return {key: tensor.shape for key, tensor in untrained(name, 2).state_dict().items()}


def _body_fits(name: str, state: Mapping[str, Tensor]) -> bool:
    """Return whether a state dict contains a classifier; its head is not compared."""
    body = {k: s for k, s in _shapes_of(name).items() if k.partition(".")[0] not in _HEADS}
    return all(
        state[key].shape == shape if key in state else key.endswith("num_batches_tracked")
        for key, shape in body.items()
    )


def _nearest(states: Sequence[Mapping[str, Tensor]]) -> str:
    """Return a sentence on the classifier nearest to a state dict; empty if none is near."""
    shared = {
        (name, index): sum(key in s and s[key].shape == own for key, own in shapes.items())
        for index, s in enumerate(states)
        for name in _candidates(s)
        for shapes in [_shapes_of(name)]
    }
    name, index = max(shared, key=lambda found: shared[found], default=("", 0))
    if not name or 2 * shared[name, index] <= len(states[-1]):
        return ""
    state = states[index]
    try:
        own = _shaped_like(name, state, torch.device("meta"))
    except ModelError:  # another head, at least
        with torch.device("meta"):
            own = untrained(name, 2)
    return f"The nearest is {name}, but then there is {'; '.join(misfits(own, state))}. "


def build_torchvision(name: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a torchvision classifier with the classes and widths of a state dict.

    Where possible its tensors have no values, because the state dict provides all of them.

    Raises:
        ModelError: the last layer is not in the state dict.
    """
    try:
        return _shaped_like(name, state, torch.device("meta"))
    except (NotImplementedError, RuntimeError):  # some constructors compute with values
        with torch.random.fork_rng(devices=[]):
            return _shaped_like(name, state, torch.device("cpu"))


def untrained(
    name: str,
    num_classes: int,
    *,
    init: bool = True,
    auxiliary: bool = True,
    rescaled: bool = False,
) -> nn.Module:
    """Return a torchvision classifier with random weights.

    Args:
        name: for instance ``resnet18``.
        num_classes: number of logits.
        init: draw the weights as torchvision does, which is slow for some classifiers.
        auxiliary: include the heads used in training only, if the classifier has them.
        rescaled: switch ``transform_input`` on, if the classifier has it.
    """
    options = (
        {"init_weights": init, "aux_logits": auxiliary, "transform_input": rescaled}
        if name in _WITH_AUXILIARY
        else {}
    )
    module: nn.Module = models.get_model(name, weights=None, num_classes=num_classes, **options)
    return module


def _shaped_like(name: str, state: Mapping[str, Tensor], device: torch.device) -> nn.Module:
    """Return a classifier with the numbers of classes and units that a state dict has."""
    auxiliary = any(key.startswith(_AUXILIARY) for key in state)
    make = partial(untrained, name, init=False, auxiliary=auxiliary, rescaled=True)
    with device:
        module = make(2)
        last = [key for key in module.state_dict() if key.endswith("weight")][-1]
        if last not in state or state[last].ndim < 2 or not len(state[last]):
            raise ModelError(
                f"expected the weights of {name}, got a file with "
                f"{'; '.join(misfits(module, state))}. Is --model the right architecture? A head "
                "of your own needs your own code: --model file.py:build."
            )
        if auxiliary or not isinstance(module.get_submodule(last.rpartition(".")[0]), nn.Linear):
            module = make(class_count(state, last, module.state_dict()))
        if isinstance(module, models.MNASNet):
            _restore_first_stem(module, state)
    with torch.device("meta"):  # no memory is reserved for the widths that a file claims
        _widen(module, state)
    return module


def _restore_first_stem(module: models.MNASNet, state: Mapping[str, Tensor]) -> None:
    """Give an MNASNet the stem of torchvision's first version if a state dict has that stem."""
    first = state.get("layers.0.weight")
    if first is None or first.shape != _FIRST_STEM or module.alpha == 1:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that the version is an old one
        module._load_from_state_dict({}, "", {"version": 1}, False, [], [], [])
    del module._version  # or loading would change the state dict that fits now


def _current_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict of an older torchvision with today's names of its tensors.

    Source: torchvision's own, ``_load_state_dict`` in densenet.py and ``MLPBlock`` in
    vision_transformer.py.
    """
    renamed = dict(state)
    for old, new in _OLD_NAMES:
        renamed = {old.sub(new, key): tensor for key, tensor in renamed.items()}
    return renamed


def _widen(module: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Replace the linear layers of a classifier's head by layers of a state dict's widths."""
    for name, part in list(module.named_modules()):
        weight = state.get(f"{name}.weight")
        if (
            isinstance(part, nn.Linear)
            and name.partition(".")[0] in _HEADS
            and weight is not None
            and weight.ndim == 2
            and weight.shape != part.weight.shape
        ):
            outputs, inputs = weight.shape
            widened = nn.Linear(inputs, outputs, bias=part.bias is not None)
            parent, _, child = name.rpartition(".")
            setattr(module.get_submodule(parent), child, widened)


def _with_random_head(module: nn.Module) -> nn.Module:
    """Draw the weights of a last layer whose zeros would make all logits equal."""
    last = [part for part in module.modules() if isinstance(part, nn.Linear)][-1:]
    for linear in last:
        if not linear.weight.any():
            nn.init.trunc_normal_(linear.weight, std=0.02)
    return module
