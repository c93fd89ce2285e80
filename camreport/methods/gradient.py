"""Methods made of a layer's activation A and the gradient G of a class's score.

Axes are counted from the right (``-3`` channel, ``-2, -1`` space), so any leading axes work.
A method never modifies its inputs and returns the raw map: unnormalised, before the final ReLU.
Every method but ``gradient_x_activation`` is a sum over channels of which none depends on another,
so that ``contributions`` can split it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from camreport.errors import MethodError
from camreport.methods.registry import GRADIENT, LOOK_ALIKES, NOISE, POOL_GRADIENT, method

if TYPE_CHECKING:
    from torch import Tensor


@method("Grad-CAM", GRADIENT, where="late", linear=True, supports_smoothing=True)
def grad_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Weigh each channel by its average gradient.

    R = sum_k w_k A_k with w_k = mean over space of G_k.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d score / d activation, same shape; unit score per activation unit.

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
    return _weigh_channels(gradient.mean((-2, -1)), activation)


@method(
    "Grad-CAM++",
    GRADIENT,
    where="late_positive",
    non_negative=True,
    supports_smoothing=True,
    aliases=("gradcampp",),
)
def grad_cam_plus_plus(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Weigh each channel by its positive gradients, each discounted by the channel's sum.

    R = sum_k w_k A_k with w_k = sum over space of alpha * relu(G_k) and
    alpha = G^2 / (2 G^2 + S_k G^3), S_k = sum over space of A_k. Where G > 0 that is exactly
    relu(G) / (2 + G S_k): no epsilon is needed, no scale is special. A map in which such a
    denominator is not positive (S_k far below zero) has no meaning and is returned as NaN.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype; meant for A >= 0.
        gradient: d score / d activation, same shape; unit score per activation unit.

    Returns:
        cam ``(..., h, w)``, unnormalised, >= 0 where the activation is, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Chattopadhyay et al., Grad-CAM++, 2018, eq. 5 and 19,
        https://arxiv.org/abs/1710.11063

    Example:
        >>> import torch
        >>> grad_cam_plus_plus(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[[-1.0, 1.0]]]))
        tensor([[0.2500, 0.2500]])
    """
    _same_shape(activation, gradient)
    total = activation.sum((-2, -1), keepdim=True)  # S_k, (..., C, 1, 1)
    positive = gradient.clamp(min=0)
    largest = positive.amax((-2, -1), keepdim=True)
    undefined = (largest * total).add_(2).squeeze((-2, -1)) <= 0
    denominator = (positive * total).add_(2)
    weight = positive.div_(denominator).sum((-2, -1))
    return _weigh_channels(weight.masked_fill_(undefined, float("nan")), activation)


@method(
    "Smooth Grad-CAM++",
    NOISE,
    where="late_positive",
    non_negative=True,
    aliases=("smoothgradcampp",),
)
def smooth_grad_cam_plus_plus(
    activation: "Tensor", first: "Tensor", second: "Tensor", third: "Tensor"
) -> "Tensor":
    """Compute Grad-CAM++ with derivatives averaged over noisy copies of the image.

    R = sum_k w_k A_k with w_k = sum over space of alpha * relu(D1_k) and
    alpha = D2 / (2 D2 + S_k D3), where D1, D2, D3 are the means over the copies of G, G^2, G^3.
    A and S_k = sum over space of A_k belong to the image without noise. D2 in the numerator is
    what Grad-CAM++ leads to (its eq. 19); the paper prints D1. Where the denominator
    is not positive the expansion behind alpha has no meaning and the position gets no weight.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype; meant for A >= 0.
        first: mean of d score / d activation, same shape.
        second: mean of its square.
        third: mean of its cube.

    Returns:
        cam ``(..., h, w)``, unnormalised, >= 0 where the activation is, same dtype and device.

    Raises:
        MethodError: the shapes differ.

    Source: Omeiza et al., Smooth Grad-CAM++, 2019, https://arxiv.org/abs/1908.01224

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1, 2)
        >>> smooth_grad_cam_plus_plus(one, one, one, one)
        tensor([[0.5000, 0.5000]])
    """
    for derivative in (first, second, third):
        _same_shape(activation, derivative)
    total = activation.sum((-2, -1), keepdim=True)  # S_k, (..., C, 1, 1)
    denominator = 2 * second + total * third
    alpha = (second / denominator).masked_fill_(denominator <= 0, 0)
    return _weigh_channels((alpha * first.clamp(min=0)).sum((-2, -1)), activation)


@method(
    "XGrad-CAM",
    GRADIENT,
    where="late_positive",
    non_negative=True,
    linear=True,
    supports_smoothing=True,
)
def xgrad_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Weigh each channel by its gradients, averaged by how active each position is.

    R = sum_k w_k A_k with w_k = sum over space of G_k A_k / S_k, S_k = sum over space of A_k.
    The map's sum equals HiResCAM's. A channel with S_k = 0 has no weight; no epsilon is added.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype; meant for A >= 0.
        gradient: d score / d activation, same shape; unit score per activation unit.

    Returns:
        cam ``(..., h, w)``, unnormalised, signed, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Fu et al., Axiom-based Grad-CAM, BMVC 2020, https://arxiv.org/abs/2008.02312

    Example:
        >>> import torch
        >>> xgrad_cam(torch.tensor([[[1.0, 3.0]]]), torch.tensor([[[0.0, 4.0]]]))
        tensor([[3., 9.]])
    """
    _same_shape(activation, gradient)
    total = activation.sum((-2, -1))  # S_k, (..., C)
    weight = (gradient * activation).sum((-2, -1)).div_(total)
    return _weigh_channels(weight.masked_fill_(total == 0, 0), activation)


@method("HiResCAM", GRADIENT, values="signed", linear=True, supports_smoothing=True)
def hires_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Multiply gradient and activation at each position, keeping the sign and the position.

    R = sum_k G_k * A_k.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d score / d activation, same shape; unit score per activation unit.

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
    return gradient_x_activation(activation, gradient).sum(-3)


@method("Grad-CAM elementwise", GRADIENT, supports_smoothing=True)
def grad_cam_elementwise(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Multiply gradient and activation at each position and keep what is positive.

    R = sum_k relu(G_k * A_k). Equals LayerCAM wherever A >= 0.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d score / d activation, same shape; unit score per activation unit.

    Returns:
        cam ``(..., h, w)``, unnormalised, >= 0, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: GradCAMElementWise of https://github.com/jacobgil/pytorch-grad-cam

    Example:
        >>> import torch
        >>> grad_cam_elementwise(torch.tensor([[[1.0, -2.0]]]), torch.tensor([[[-1.0, -3.0]]]))
        tensor([[0., 6.]])
    """
    return gradient_x_activation(activation, gradient).clamp_(min=0).sum(-3)


@method("LayerCAM", GRADIENT, fuses=True, supports_smoothing=True)
def layer_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Weigh each position of each channel by its own positive gradient.

    R = sum_k relu(G_k) * A_k.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype; meant for A >= 0.
        gradient: d score / d activation, same shape; unit score per activation unit.

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


@method(
    "LayerCAM (pool gradient)",
    POOL_GRADIENT,
    where="before_pool",
    fuses=True,
    opt_in=True,
    aliases=("layercampool",),
)
def layer_cam_pool_gradient(activation: "Tensor", pool_gradient: "Tensor") -> "Tensor":
    """Compute LayerCAM from the gradient after the following pooling layer, enlarged.

    R = sum_k relu(A_k * up(G'_k)) with G' = d score / d output of the pooling layer and ``up``
    bilinear with corners aligned, as in the authors' localisation code. Max pooling passes each
    gradient to one position, which draws a grid of dots; the gradient after the pooling has none.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        pool_gradient: d score / d pooled activation, ``(..., C, h', w')``.

    Returns:
        cam ``(..., h, w)``, unnormalised, >= 0, same dtype and device.

    Source: Jiang et al., LayerCAM, IEEE TIP 2021; scripts/test.py of
        https://github.com/PengtaoJiang/layercam_loc

    Example:
        >>> import torch
        >>> layer_cam_pool_gradient(torch.ones(1, 1, 3), torch.tensor([[[0.0, 2.0]]]))
        tensor([[0., 1., 2.]])
    """
    from torch.nn.functional import interpolate

    size = (activation.shape[-2], activation.shape[-1])
    folded = pool_gradient.flatten(end_dim=-4) if pool_gradient.ndim > 3 else pool_gradient[None]
    enlarged = interpolate(folded, size, mode="bilinear", align_corners=True)
    return grad_cam_elementwise(activation, enlarged.view(activation.shape))


@method(
    "Gradient × activation",
    GRADIENT,
    values="signed",
    linear=True,
    per_channel=True,
    opt_in=True,
    aliases=("gradxactivation", "layergradientxactivation", "inputxgradient"),
)
def gradient_x_activation(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Give every channel its own map: what it contributes to the score at each position.

    R_k = G_k * A_k. The sum over channels is HiResCAM.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d score / d activation, same shape; unit score per activation unit.

    Returns:
        maps ``(..., C, h, w)``, unnormalised, signed, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Shrikumar et al., Not Just a Black Box, 2016 (at a layer instead of the
        input), https://arxiv.org/abs/1605.01713

    Example:
        >>> import torch
        >>> gradient_x_activation(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[-1.0, 3.0]]]))
        tensor([[[-1.,  6.]]])
    """
    _same_shape(activation, gradient)
    return gradient * activation


@method("Finer-CAM", LOOK_ALIKES, where="late", supports_smoothing=True)
def finer_cam(activation: "Tensor", gradient: "Tensor") -> "Tensor":
    """Weigh each channel by its average gradient of the class's lead over its look-alikes.

    Grad-CAM of s_c - 0.6 mean(s_d), where d runs over the three classes whose logits are nearest
    to that of class c.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        gradient: d (that difference) / d activation, same shape; unit logit per activation unit.

    Returns:
        cam ``(..., h, w)``, unnormalised, signed, same dtype and device.

    Raises:
        MethodError: the two shapes differ.

    Source: Zhang et al., Finer-CAM, CVPR 2025, https://arxiv.org/abs/2501.11309

    Example:
        >>> import torch
        >>> finer_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[0.0, 1.0]]]))
        tensor([[0.5000, 1.0000]])
    """
    return grad_cam(activation, gradient)


def contributions(
    compute: "Callable[[Tensor, Tensor], Tensor]", activation: "Tensor", gradient: "Tensor"
) -> "Tensor":
    """Split a method's map into the contribution of each channel.

    Args:
        compute: a method that is a sum over channels.
        activation: layer output, ``(..., C, h, w)``.
        gradient: d score / d activation, same shape.

    Returns:
        maps ``(..., C, h, w)`` whose sum over channels is the method's map.
    """
    return compute(activation.unsqueeze(-3), gradient.unsqueeze(-3))


def _weigh_channels(weight: "Tensor", activation: "Tensor") -> "Tensor":
    """Return sum_k w_k A_k, ``(..., h, w)``, of weights ``(..., C)``; no product is kept."""
    flat = weight.unsqueeze(-2) @ activation.flatten(-2)  # (..., 1, h * w)
    return flat.reshape(*flat.shape[:-2], *activation.shape[-2:])


def _same_shape(activation: "Tensor", gradient: "Tensor") -> None:
    if activation.shape != gradient.shape:
        raise MethodError(
            f"gradient: expected the activation's shape {tuple(activation.shape)}, "
            f"got {tuple(gradient.shape)}. Both must come from the same layer and pass."
        )
