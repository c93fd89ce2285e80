"""Methods that follow the gradient down to the pixels."""

from typing import TYPE_CHECKING

from camreport.methods.registry import GUIDED, INPUT_GRADIENT, method

if TYPE_CHECKING:
    from torch import Tensor


@method(
    "Guided backpropagation",
    GUIDED,
    where="input_relu",
    values="signed",
    grid="input",
    scope="network",
    aliases=("guidedbackpropagation", "guidedbp", "gbp"),
)
def guided_backprop(gradient: "Tensor") -> "Tensor":
    """Return the gradient at the pixels when each ReLU passes only positive signals, both ways.

    R = d score / d x where the gradient at every ReLU is G * 1[z > 0] * 1[G > 0].

    Args:
        gradient: that gradient, ``(..., 3, H, W)``.

    Returns:
        the same tensor: the map is the gradient itself, signed.

    Source: Springenberg et al., Striving for Simplicity, 2015,
        https://arxiv.org/abs/1412.6806

    Example:
        >>> import torch
        >>> guided_backprop(torch.tensor([[[1.0, -2.0]]]))
        tensor([[[ 1., -2.]]])
    """
    return gradient


@method("Guided Grad-CAM", GUIDED, where="late_relu", values="signed", grid="input")
def guided_grad_cam(gradient: "Tensor", cam: "Tensor") -> "Tensor":
    """Show guided backpropagation only where Grad-CAM is active.

    R = guided backpropagation * up(relu(Grad-CAM)), enlarged bilinearly (half-pixel centres).

    Args:
        gradient: guided backpropagation, ``(..., 3, H, W)``.
        cam: raw Grad-CAM of the layer, ``(..., h, w)``, same leading axes.

    Returns:
        saliency ``(..., 3, H, W)``, unnormalised, signed; zeros where Grad-CAM is empty.

    Source: Selvaraju et al., Grad-CAM, 2017, https://arxiv.org/abs/1610.02391

    Example:
        >>> import torch
        >>> guided_grad_cam(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[3.0]]))
        tensor([[[ 3., -6.]]])
    """
    return gradient * _enlarge(cam.clamp(min=0), gradient.shape[-2:], False).unsqueeze(-3)


@method(
    "FullGrad",
    INPUT_GRADIENT,
    where="network",
    grid="input",
    scope="network",
    aliases=("fullgradcam", "fullgradient"),
)
def full_grad(image: "Tensor", gradient: "Tensor", biases: "list[Tensor]") -> "Tensor":
    """Add up the contributions of the input and of every bias to the score at each position.

    R = sum over colours of psi(x * dx) + sum over layers and channels of psi(b_k * dz_k), where
    psi takes the absolute value, stretches it to 0..1 over all channels of the image at once,
    and enlarges it bilinearly with corners aligned, as the authors' code does; their 1e-6 in
    the division is left out.

    Args:
        image: model input x, ``(..., 3, H, W)``.
        gradient: dx = d score / d x, same shape.
        biases: for each layer with a bias ``b_k * d score / d output``, ``(..., C, h, w)``.

    Returns:
        saliency ``(..., H, W)``, >= 0.

    Source: Srinivas and Fleuret, Full-Gradient Representation, NeurIPS 2019,
        https://arxiv.org/abs/1905.00780, and saliency/fullgrad.py of
        https://github.com/idiap/fullgrad-saliency

    Example:
        >>> import torch
        >>> full_grad(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[1.0, -1.0]]]), [])
        tensor([[0., 1.]])
    """
    saliency = _stretch((image * gradient).abs()).sum(-3)
    for bias in biases:
        added = _stretch(bias.abs()).sum(-3)  # enlarging is linear: sum the channels first
        saliency = saliency + _enlarge(added, saliency.shape[-2:], True)
    return saliency


def _stretch(values: "Tensor") -> "Tensor":
    """Return values ``(..., C, h, w)`` from 0 to 1 over the last three axes; constant: zeros."""
    low = values.amin((-3, -2, -1), keepdim=True)
    span = values.amax((-3, -2, -1), keepdim=True) - low
    return (values - low) / span.masked_fill(span == 0, 1)


def _enlarge(maps: "Tensor", size: "tuple[int, ...]", align_corners: bool) -> "Tensor":
    """Enlarge maps ``(..., h, w)`` bilinearly to ``size``."""
    from torch.nn.functional import interpolate

    folded = maps.reshape(1, -1, *maps.shape[-2:])
    large = interpolate(folded, tuple(size), mode="bilinear", align_corners=align_corners)
    return large.view(*maps.shape[:-2], *size)
