"""What a caller may hand to the engine: a model, layers, images."""

from collections.abc import Mapping, Sequence
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.network.address import Layer
from camreport.network.checks import check_module
from camreport.network.choose import choose_layers
from camreport.settings import AUTO, split_list

Asked = str | int | nn.Module | Sequence[str | int | nn.Module] | Mapping[str, Layer] | None
"""Layers as a user may specify them."""


@runtime_checkable
class Classifier(Protocol):
    """A module with its preprocessing and output format; ``load_model`` returns one.

    Attributes:
        module: maps images ``(N, 3, H, W)`` to logits, or to an output that contains them.
        preprocessing: preprocessing of the images; its ``size`` is their height and width.
        output: key, attribute or index of the logits in the module's output.
        activation: how logits become probabilities, as for ``explain``.
    """

    @property
    def module(self) -> nn.Module: ...  # noqa: D102
    @property
    def preprocessing(self) -> Preprocessing: ...  # noqa: D102
    @property
    def output(self) -> str | None: ...  # noqa: D102
    @property
    def activation(self) -> str: ...  # noqa: D102


def check_images(images: Tensor) -> None:
    """Refuse anything that is not a batch of images.

    Raises:
        ModelError: the images are not a float tensor ``(N, 3, H, W)`` with N > 0.
    """
    if not isinstance(images, Tensor):
        raise ModelError(
            f"images: expected a float tensor (N, 3, H, W), got {type(images).__name__}. "
            "For files use camreport.run(files, out)."
        )
    shape = tuple(images.shape)
    if images.ndim != 4 or shape[0] == 0 or not images.is_floating_point():
        raise ModelError(
            f"images: expected a float tensor (N, 3, H, W), got {shape} of {images.dtype}."
            + (" Add the batch axis: images[None]." if images.ndim == 3 else "")
        )


def unpacked(
    model: nn.Module | Classifier,
    input_shape: tuple[int, ...] | None,
    output: str | None,
    activation: str,
) -> tuple[nn.Module, tuple[int, ...], str | None, str]:
    """Return a model's module, its input's shape, its output's key and activation.

    Of a classifier, what the caller has not given is the classifier's own.

    Raises:
        ModelError: the model is no module, or the shape is unknown.
    """
    if isinstance(model, Classifier) and not isinstance(model, nn.Module):
        output = model.output if output is None else output
        activation = model.activation if activation == AUTO else activation
        input_shape = input_shape or (3, *model.preprocessing.size)
        model = model.module
    module = check_module(model)
    if input_shape is None:
        raise ModelError(
            "input_shape: expected (C, H, W) of the images, got none. Pass for example "
            "input_shape=(3, 224, 224), or what load_model returns as the model."
        )
    return module, tuple(input_shape), output, activation


def resolved(
    module: nn.Module, layers: Asked, sample: Tensor, output: str | None
) -> Mapping[str, Layer]:
    """Return the layers of a request by the names that the caller gave."""
    if isinstance(layers, Mapping):
        return layers
    wanted = split_list(layers) if isinstance(layers, str) else layers
    return choose_layers(module, wanted, sample, output)
