"""Methods made of activations and linear algebra, or of the classifier's own weights."""

from typing import TYPE_CHECKING

from camreport.methods.gradient import gradient_x_activation
from camreport.methods.registry import ACTIVATION, GRADIENT, HEAD, method

if TYPE_CHECKING:
    from torch import Tensor

SQUARINGS = 16
"""Squarings of a Gram matrix before its first eigenvector is read off a column: the power 65,536
leaves less than 1e-4 of a second eigenvector whose singular value is 0.9999 of the first."""

MAX_CANCELLED = 1e-3
"""Smallest fraction of its terms' sizes at which the sign of a sum is not left to rounding."""


@method("CAM", HEAD, where="before_gap", linear=True)
def cam(activation: "Tensor", weight: "Tensor") -> "Tensor":
    """Weigh the last feature maps by the classifier's own weights for the class.

    R = sum_k W_ck A_k, for networks that end in global average pooling and one linear layer.

    Args:
        activation: the tensor that is pooled, ``(..., C, h, w)``, any float dtype.
        weight: the linear layer's row of each class, ``(..., K, C)``.

    Returns:
        cams ``(..., K, h, w)``, unnormalised, signed, same dtype and device.

    Source: Zhou et al., Learning Deep Features for Discriminative Localization, CVPR 2016, eq. 2,
        https://arxiv.org/abs/1512.04150

    Example:
        >>> import torch
        >>> cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[3.0], [-1.0]]))
        tensor([[[ 3.,  6.]],
        <BLANKLINE>
                [[-1., -2.]]])
    """
    flat = weight @ activation.flatten(-2)  # (..., K, h * w)
    return flat.reshape(*flat.shape[:-1], *activation.shape[-2:])


@method("Eigen-CAM", ACTIVATION, per_class=False)
def eigen_cam(activation: "Tensor") -> "Tensor":
    """Draw the main pattern that all channels share, independent of the class.

    R = X v with X = A as ``(h * w, C)`` and v its first right singular vector: the projection of
    each position on the direction in which activations are strongest. As in the paper, X is not
    centred. The sign of v is arbitrary; it is chosen so that the map agrees with the sum of the
    channels. Where the channels cancel, as behind a LayerNorm, the larger values are positive:
    see ``first_component``.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.

    Returns:
        cam ``(..., h, w)``, unnormalised, >= 0 where the activation is, same dtype and device.

    Source: Muhammad and Yeasin, Eigen-CAM, 2020, https://arxiv.org/abs/2008.00299

    Example:
        >>> import torch
        >>> eigen_cam(torch.tensor([[[3.0, 4.0]], [[0.0, 0.0]]]))
        tensor([[3., 4.]])
    """
    return first_component(activation)


@method("EigenGrad-CAM", GRADIENT, values="signed")
def eigen_grad_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Draw the main pattern of gradient times activation.

    R = X v with X = G * A as ``(h * w, C)`` and v its first right singular vector; not centred.
    The sign is chosen so that the map agrees with HiResCAM, the sum of the channels, and where
    the channels cancel so that the larger values are positive: see ``first_component``.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d score / d activation, same shape; unit score per activation unit.

    Returns:
        cam ``(..., h, w)``, unnormalised, signed, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Gildenblat et al., EigenGradCAM of https://github.com/jacobgil/pytorch-grad-cam, after
        Muhammad and Yeasin 2020, https://arxiv.org/abs/2008.00299

    Example:
        >>> import torch
        >>> eigen_grad_cam(torch.tensor([[[3.0, 4.0]]]), torch.tensor([[[1.0, -1.0]]]))
        tensor([[ 3., -4.]])
    """
    return first_component(gradient_x_activation(activation, gradient))


def first_component(channels: "Tensor") -> "Tensor":
    """Project the positions on the first right singular vector of ``(h * w, C)``.

    Taken from the first eigenvector of the smaller of the two Gram matrices. It leaves
    the sign of the map c open. It is the first of these that rounding cannot turn:

    1. c agrees with the sum of the channels: sum_k <c, channel k> > 0. Behind a LayerNorm the
       channels add up to zero, and these products cancel to less than ``MAX_CANCELLED`` of their
       sizes;
    2. then sum c^3 > 0: the larger values are positive;
    3. where those cancel as well, the first value, row by row, whose size is the largest is
       positive.

    Args:
        channels: ``(..., C, h, w)``.

    Returns:
        ``(..., h, w)``; NaN where the channels hold values that are not finite.
    """
    import torch

    rows = channels.flatten(-2).float() if channels.element_size() < 4 else channels.flatten(-2)
    peak = rows.abs().amax((-2, -1), keepdim=True)  # squares must neither overflow nor vanish
    rows = rows / torch.where(peak > 0, peak, 1.0)  # (..., C, h * w)
    broken = ~rows.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    rows = rows.masked_fill(broken, 0)
    if rows.shape[-2] <= rows.shape[-1]:
        vector = _leading_vector(rows @ rows.mT)  # (..., C, 1)
        component = vector.mT @ rows
    else:
        vector = _leading_vector(rows.mT @ rows)  # (..., h * w, 1)
        component = (rows @ vector).norm(dim=-2, keepdim=True) * vector.mT
    signed: Tensor = component * _sign(component, rows) * peak
    signed = signed.masked_fill(broken, torch.nan).to(channels.dtype)
    return signed.reshape(*channels.shape[:-3], *channels.shape[-2:])


def _leading_vector(gram: "Tensor") -> "Tensor":
    """Return the first eigenvector of Gram matrices ``(..., n, n)``, as ``(..., n, 1)``.

    A GPU multiplies matrices far faster than it decomposes many small ones; the CPU does not.
    """
    import torch

    if gram.device.type == "cpu":
        vectors: Tensor = torch.linalg.eigh(gram).eigenvectors
        return vectors[..., -1:]
    return by_squaring(gram)


def by_squaring(gram: "Tensor") -> "Tensor":
    """Return the first eigenvector of Gram matrices by a fixed number of squarings.

    Each squaring squares the ratio of any two eigenvalues, until one is left. A matrix of zeros
    has a vector of zeros.

    Args:
        gram: ``(..., n, n)``, symmetric and positive semidefinite.

    Returns:
        ``(..., n, 1)``, of length 1, with either sign.
    """
    import torch

    for _ in range(SQUARINGS):
        trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
        gram = gram / torch.where(trace > 0, trace, 1.0)
        gram = gram @ gram
    largest = gram.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    column = gram.gather(-1, largest.expand(*gram.shape[:-1], 1))
    length = column.norm(dim=-2, keepdim=True)
    return column / torch.where(length > 0, length, 1.0)


def _sign(component: "Tensor", rows: "Tensor") -> "Tensor":
    """Return the factor, 1 or -1, ``(..., 1, 1)``, that gives a first component its sign.

    Args:
        component: with either sign, ``(..., 1, h * w)``.
        rows: the channels, ``(..., C, h * w)``.
    """
    import torch

    size = component.abs()
    first = (size >= (1 - MAX_CANCELLED) * size.amax(-1, keepdim=True)).int().argmax(-1)
    deciding = component.gather(-1, first.unsqueeze(-1))
    for terms in (component**3, (rows @ component.mT).mT):  # the last that does not cancel decides
        total = terms.sum(-1, keepdim=True)
        cancels = total.abs() <= MAX_CANCELLED * terms.abs().sum(-1, keepdim=True)
        deciding = torch.where(cancels, deciding, total)
    return torch.where(deciding < 0, -1.0, 1.0).to(component.dtype)
