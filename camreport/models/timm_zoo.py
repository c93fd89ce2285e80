"""timm's classifiers, with their own data configuration and category names."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import ModuleType

import torch
from torch import Tensor, nn

from camreport.errors import ModelError, suggestion
from camreport.images.preprocessing import Preprocessing
from camreport.messages import message
from camreport.models.loaded import (
    CONNECT_SECONDS,
    Architecture,
    LoadedModel,
    first_line,
    numbered_classes,
    state_sha256,
    with_random_weights,
)
from camreport.models.state import misfits
from camreport.settings import TIMM


def load_timm(name: str, weights: str = "default") -> LoadedModel:
    """Load a timm classifier with its pretrained weights, downloading them if needed.

    Args:
        name: for instance ``timm:resnet18`` or ``timm:convnext_tiny.in12k_ft_in1k``.
        weights: ``default``, or ``none`` for random ones.

    Raises:
        ModelError: timm is not installed, has no such classifier, or its weights cannot be
            downloaded.
    """
    timm = _timm()
    own = _known(timm, name)
    config = timm.get_pretrained_cfg(own)
    if _is_tower(timm, own):
        raise ModelError(
            f"model: expected a classifier, but the weights of {name} have none: they return "
            f"features of an image, not classes. {_with_classes(timm, own)} --checkpoint puts "
            "weights of your own with a classifier into it."
        )
    if weights == "none":
        return with_random_weights(
            timm_architecture(name),
            "timm",
            config.num_classes,
            partial(timm.create_model, own, pretrained=False),
        )
    with _no_retries() as unreachable:
        try:
            module = timm.create_model(own, pretrained=True).eval()
        except Exception as error:  # huggingface_hub and its network libraries raise their own
            hub = config.hf_hub_id
            file = f"model.safetensors from https://huggingface.co/{hub}" if hub else config.url
            reason = (unreachable if hub else "") or first_line(error)
            raise ModelError(
                f"model: the weights of {name} could not be downloaded ({reason}). On a machine "
                f"with internet, fetch {file} "
                "and give it with --checkpoint, or see the architecture at work with "
                "--weights none."
            ) from error
    return LoadedModel(
        module=module,
        preprocessing=_preprocessing(timm, module),
        class_names=_class_names(timm, module, module.num_classes),
        name=name,
        source=message("models.from_timm", weights=module.pretrained_cfg.get("hf_hub_id") or own),
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
        preprocessing_source=message("models.preprocessing_of_architecture", model=name),
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
    """Return timm's current name of a classifier.

    Raises:
        ModelError: timm does not know it.
    """
    given = name.removeprefix(TIMM)
    own = timm.models.get_deprecated_models().get(given) or given
    plain, dot, tag = own.partition(".")
    known = timm.is_model(plain)
    tags = _tags(timm, plain) if known else []
    if known and dot and tag not in tags:
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


def _tags(timm: ModuleType, plain: str) -> list[str]:
    """Return the names of the weights that timm knows for an architecture."""
    return [full.partition(".")[2] for full in timm.list_pretrained(f"{plain}.*")]


def _is_tower(timm: ModuleType, own: str) -> bool:
    """Return whether weights give features instead of classes, such as DINO's, MAE's and CLIP's.

    CLIP's networks have a last layer too; its width is not a number of classes.
    """
    config = timm.get_pretrained_cfg(own)
    compares = "clip" in own or "_pe_core_" in own
    return not config.num_classes or (
        compares and timm.data.infer_imagenet_subset(config.to_dict()) is None
    )


def _with_classes(timm: ModuleType, own: str) -> str:
    """Return advice that names weights with classes, of the same architecture if there are any."""
    plain = own.partition(".")[0]
    others = [name for tag in _tags(timm, plain) if not _is_tower(timm, name := f"{plain}.{tag}")]
    if others:
        return f"With classes: {', '.join(TIMM + name for name in others[:3])}."
    return f"Others have classes, for instance {TIMM}convnext_nano.in12k_ft_in1k."


@contextmanager
def _no_retries() -> Iterator[str]:
    """Use only the cache for weights while their server does not answer.

    huggingface_hub itself would retry for a minute and write a line each time.

    Yields:
        why the server cannot be reached; empty if it can.
    """
    from huggingface_hub import constants
    from huggingface_hub.utils import get_session

    before, unreachable = constants.HF_HUB_OFFLINE, ""
    try:
        get_session().head(constants.ENDPOINT, timeout=CONNECT_SECONDS)
    except Exception as error:  # its network libraries raise their own
        constants.HF_HUB_OFFLINE = True
        unreachable = f"{constants.ENDPOINT} does not answer: {first_line(error)}"
    try:
        yield unreachable
    finally:
        constants.HF_HUB_OFFLINE = before


def _build(timm: ModuleType, own: str, state: Mapping[str, Tensor]) -> nn.Module:
    """Return a classifier with the number of classes of a state dict.

    It is built without values first, so that a file that does not fit costs no memory.
    """
    head = timm.get_pretrained_cfg(own.partition(".")[0]).classifier
    key = f"{head[0] if isinstance(head, tuple) else head}.weight"
    if key not in state or not state[key].ndim:
        raise ModelError(
            f"expected the weights of timm's {own} with a classifier, but {key} is missing."
        )
    create = partial(timm.create_model, own, pretrained=False, num_classes=len(state[key]))
    with torch.device("meta"):
        module: nn.Module = create()
    if misfits(module, state):
        return module
    with torch.random.fork_rng(devices=[]):
        module = create()
    return module.eval()


def _preprocessing(timm: ModuleType, module: nn.Module) -> Preprocessing:
    """Return the preprocessing of timm's own evaluation transform."""
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
    """Return the category names of timm's ImageNet classifiers; numbers for all others."""
    subset = timm.data.infer_imagenet_subset(module)
    if not subset:
        return numbered_classes(count)
    info = timm.data.ImageNetInfo(subset)
    return tuple(info.index_to_description(index).partition(",")[0] for index in range(count))
