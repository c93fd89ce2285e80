"""timm's classifiers, with their own data configuration and category names."""

from collections.abc import Mapping
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from camreport.choices import TIMM
from camreport.errors import ModelError, suggestion
from camreport.images import Preprocessing
from camreport.models.loaded import (
    Architecture,
    LoadedModel,
    first_line,
    numbered_classes,
    state_sha256,
    with_random_weights,
)
from camreport.models.state import class_count


def load_timm(name: str, weights: str = "default") -> LoadedModel:
    """Load a timm classifier with its pretrained weights, downloading them if needed.

    Args:
        name: for instance ``timm:resnet18`` or ``timm:convnext_tiny.in12k_ft_in1k``.
        weights: ``default``, or ``none`` for random ones.

    Raises:
        ModelError: timm is not installed, has no such classifier, or its weights cannot be had.
    """
    timm = _timm()
    own = _known(timm, name)
    if weights == "none":
        return with_random_weights(
            timm_architecture(name),
            "timm's",
            timm.get_pretrained_cfg(own).num_classes,
            partial(timm.create_model, own, pretrained=False),
        )
    try:
        module = timm.create_model(own, pretrained=True).eval()
    except Exception as error:  # huggingface_hub and its network libraries raise their own
        hub = timm.get_pretrained_cfg(own).hf_hub_id
        raise ModelError(
            f"model: the weights of {name} cannot be had ({first_line(error)}). On a machine with "
            f"internet, fetch model.safetensors from https://huggingface.co/{hub} and give it "
            "with --checkpoint, or see the architecture at work with --weights none"
        ) from error
    return LoadedModel(
        module=module,
        preprocessing=_preprocessing(timm, module),
        class_names=_class_names(timm, module, module.num_classes),
        name=name,
        source=f"timm, {module.pretrained_cfg.get('hf_hub_id') or own}",
        sha256=state_sha256(module),
    )


def timm_architecture(name: str) -> Architecture:
    """Return one of timm's classifiers.

    Raises:
        ModelError: timm is not installed, or has no classifier of that name.
    """
    timm = _timm()
    own = _known(timm, name)
    with torch.device("meta"):
        preprocessing = _preprocessing(timm, timm.create_model(own, pretrained=False))
    return Architecture(
        name=name,
        preprocessing=preprocessing,
        build=partial(_build, timm, own),
        preprocessing_source=f"{name}'s own",
    )


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ModelError(
            "model: timm is not installed. Get it with: pip install 'camreport[timm]'"
        ) from error
    module: ModuleType = timm
    return module


def _known(timm: ModuleType, name: str) -> str:
    """Return a name as timm says it, if timm knows it."""
    own = name.removeprefix(TIMM)
    plain, _, tag = own.partition(".")
    known = timm.is_model(plain)
    tags = [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")] if known else []
    if known and tag and tag not in tags:
        raise ModelError(
            f"model: expected weights that timm {timm.__version__} knows for {plain}, got {own!r}. "
            f"It knows {', '.join(tags[:5])}."
        )
    if not known:
        raise ModelError(
            f"model: expected a classifier that timm {timm.__version__} knows, got {own!r}."
            + suggestion(own, timm.list_models())
        )
    return own


def _build(timm: ModuleType, own: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a classifier of as many classes as a state dict has."""
    head = timm.get_pretrained_cfg(own.partition(".")[0]).classifier
    key = f"{head[0] if isinstance(head, tuple) else head}.weight"
    if key not in state:
        raise ModelError(f"expected the weights of timm's {own}, but {key} is missing.")
    with torch.device("meta"):
        like = timm.create_model(own, pretrained=False).state_dict()
    count = class_count(state, key, like)
    module: nn.Module = timm.create_model(own, pretrained=False, num_classes=count)
    return module.eval()


def _preprocessing(timm: ModuleType, module: nn.Module) -> Preprocessing:
    """Return what timm's own evaluation transform does."""
    config = timm.data.resolve_model_data_config(module)
    _, height, width = config["input_size"]
    squash = config["crop_mode"] == "squash"
    return Preprocessing(
        size=(height, width),
        resize="squash" if squash else "short-side",
        short_side=int(min(height, width) / config["crop_pct"]),
        interpolation="bilinear" if config["interpolation"] == "bilinear" else "bicubic",
        mean=tuple(config["mean"]),
        std=tuple(config["std"]),
    )


def _class_names(timm: ModuleType, module: nn.Module, count: int) -> tuple[str, ...]:
    """Return the category names of timm's ImageNet classifiers; numbers for other ones."""
    subset = timm.data.infer_imagenet_subset(module)
    if not subset:
        return numbered_classes(count)
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index).partition(",")[0] for index in range(count))
