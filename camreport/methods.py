"""CAM methods: pure functions of activation and gradient, and the one table that lists them.

Axes are counted from the right (``-3`` channel, ``-2, -1`` space), so any leading axes work.
A method never modifies its inputs and returns the raw map: unnormalised, before the final ReLU.
Only tensor operations that both arguments bring are used: importing this module does not
import torch.

To add a method: the function, its line in ``METHODS``, its oracle in ``tests/reference.py``.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from camreport.errors import MethodError, suggestion

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Method:
    """A CAM method as the command line, the gallery and the documents present it.

    Attributes:
        key: the function's name; the name in results and on the command line.
        name: as its paper writes it.
        compute: raw cam ``(..., h, w)`` of activation and gradient, both ``(..., C, h, w)``.
        meaning: what a map shows, in one sentence.
        caution: what not to read into it, in one sentence.
        formula: one line of plain text.
        source: authors, year and address of the paper.
        signed: negative values are evidence against the class and are drawn.
        fuses: maps of several layers are also fused into one (LayerCAM).
    """

    key: str
    name: str
    compute: "Callable[[Tensor, Tensor], Tensor]"
    meaning: str
    caution: str
    formula: str
    source: str
    signed: bool = False
    fuses: bool = False


def grad_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Weigh each channel by its average gradient.

    R = sum_k w_k A_k with w_k = mean over space of G_k.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d target_logit / d activation, same shape.

    Returns:
        cam ``(..., h, w)``, unnormalised, signed, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Selvaraju et al., Grad-CAM, 2017, eq. 1-2 (its ReLU is left to the display),
        https://arxiv.org/abs/1610.02391

    Example:
        >>> import torch
        >>> grad_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([[0.5000, 1.0000]])
    """
    _same_shape(activation, gradient)
    weight = gradient.mean((-2, -1), keepdim=True)  # (..., C, 1, 1)
    return (weight * activation).sum(-3)


def layer_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Weigh each position of each channel by its own positive gradient.

    R = sum_k relu(G_k) * A_k.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype; meant for A >= 0.
        gradient: d target_logit / d activation, same shape.

    Returns:
        cam ``(..., h, w)``, unnormalised, >= 0 where the activation is, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Jiang et al., LayerCAM, IEEE TIP 2021, eq. 6-8, https://doi.org/10.1109/TIP.2021.3089943

    Example:
        >>> import torch
        >>> layer_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[-1.0, 3.0]]]))
        tensor([[0., 6.]])
    """
    _same_shape(activation, gradient)
    return gradient.clamp(min=0).mul_(activation).sum(-3)


def hires_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Multiply gradient and activation at each position, keeping sign and place.

    R = sum_k G_k * A_k.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d target_logit / d activation, same shape.

    Returns:
        cam ``(..., h, w)``, unnormalised, signed, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Draelos and Carin, HiResCAM, 2020, eq. 3, https://arxiv.org/abs/2011.08891

    Example:
        >>> import torch
        >>> hires_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[-1.0, 3.0]]]))
        tensor([[-1.,  6.]])
    """
    _same_shape(activation, gradient)
    return (gradient * activation).sum(-3)


METHODS: dict[str, Method] = {
    method.key: method
    for method in (
        Method(
            key="grad_cam",
            name="Grad-CAM",
            compute=grad_cam,
            meaning="Weighs each channel by its average gradient: one number per channel decides.",
            caution="Good for roughly where at the last layers; averaging makes it spill over, "
            "and at shallow layers it shows texture rather than the class.",
            formula="R = Σₖ mean(Gₖ) · Aₖ",
            source="Selvaraju et al. 2017, https://arxiv.org/abs/1610.02391",
        ),
        Method(
            key="layer_cam",
            name="LayerCAM",
            compute=layer_cam,
            meaning="Weighs each position by its own positive gradient, which makes shallow "
            "layers readable.",
            caution="It shows what would raise the score locally, never what counts against it, so "
            "the maps of two classes can look alike.",
            formula="R = Σₖ relu(Gₖ) ⊙ Aₖ",
            source="Jiang et al. 2021, https://doi.org/10.1109/TIP.2021.3089943",
            fuses=True,
        ),
        Method(
            key="hires_cam",
            name="HiResCAM",
            compute=hires_cam,
            meaning="Multiplies gradient and activation at each position, keeping sign and place.",
            caution="Negative areas argue against the class: they are drawn, not cut off.",
            formula="R = Σₖ Gₖ ⊙ Aₖ",
            source="Draelos & Carin 2020, https://arxiv.org/abs/2011.08891",
            signed=True,
        ),
    )
}
"""Every method by its key, in the order in which tables show them."""

DEFAULT_METHODS = ("grad_cam", "layer_cam")
"""What is compared when nobody says otherwise."""


def resolve_methods(names: str | Iterable[str]) -> list[Method]:
    """Find methods by names in any of the field's spellings, without repeats.

    Case, spaces, dashes and underscores do not matter: ``gradcam``, ``Grad-CAM``, ``layercam``.

    Args:
        names: ``all``, names separated by commas, or a sequence of names.

    Raises:
        MethodError: a name is unknown, or there is none.
    """
    listed = names.split(",") if isinstance(names, str) else list(names)
    by_spelling = {_spelling(key): method for key, method in METHODS.items()}
    found: dict[str, Method] = {}
    for name in filter(str.strip, listed):
        if _spelling(name) == "all":
            found.update(METHODS)
        elif _spelling(name) in by_spelling:
            method = by_spelling[_spelling(name)]
            found[method.key] = method
        else:
            raise MethodError(
                f"methods: expected some of {', '.join(METHODS)}, got {name.strip()!r}."
                + suggestion(name.strip().lower(), METHODS)
            )
    if not found:
        raise MethodError(f"methods: expected at least one of {', '.join(METHODS)}, got none.")
    return list(found.values())


def _spelling(name: str) -> str:
    return re.sub(r"[\s_-]", "", name.strip().lower()).replace("+", "plus")


def _same_shape(activation: "Tensor", gradient: "Tensor") -> None:
    if activation.shape != gradient.shape:
        raise MethodError(
            f"gradient: expected the activation's shape {tuple(activation.shape)}, "
            f"got {tuple(gradient.shape)}. Both must come from the same layer and pass."
        )
