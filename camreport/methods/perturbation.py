"""Methods that run the network again: with masked images, without a channel, at one position.

They need no gradient and use the same passes for all classes: the functions take the scores of K
classes in those passes, ``(..., passes, K)``, and return a map for each class.
"""

from typing import TYPE_CHECKING

from camreport.methods.registry import ABLATED, KEPT, MASKED, SHARED_MASKS, method

if TYPE_CHECKING:
    from torch import Tensor

Size = tuple[int, int]


def scaled_after_enlarging(activation: "Tensor", size: Size) -> "Tensor":
    """Make Score-CAM's masks as its authors do: enlarge, then stretch to 0..1.

    Args:
        activation: channels, ``(M, h, w)``.
        size: ``(H, W)`` of the image.

    Returns:
        masks ``(M, H, W)``; zeros for a constant channel, whose differences are only rounding.
    """
    return _stretch(_enlarge(activation, size, align_corners=False))


def scaled_after_enlarging_by_corners(activation: "Tensor", size: Size) -> "Tensor":
    """Make masks as pytorch-grad-cam does: enlarged with corners aligned, epsilon 1e-8."""
    return _stretch(_enlarge(activation, size, align_corners=True), epsilon=1e-8)


def enlarged_after_scaling(activation: "Tensor", size: Size) -> "Tensor":
    """Make masks as torchcam does: stretched on the layer's grid (epsilon 1e-8), then enlarged."""
    return _enlarge(_stretch(activation, epsilon=1e-8), size, align_corners=False)


@method(
    "Score-CAM",
    MASKED,
    where="late",
    masks=scaled_after_enlarging,
    weighs_by="probability",
)
def score_cam(activation: "Tensor", probabilities: "Tensor") -> "Tensor":
    """Weigh each channel by the class's probability when only what it highlights is shown.

    R = sum_k p_c(x * H_k) A_k with H_k the channel enlarged to the image and stretched to 0..1.
    As in the authors' code: the weight is the softmax probability itself, there is no baseline
    and no softmax over channels, and constant channels have no weight.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        probabilities: of K classes under each channel's mask, ``(..., C, K)``, 0..1.

    Returns:
        cams ``(..., K, h, w)``, unnormalised, >= 0 where the activation is.

    Source: Wang et al., Score-CAM, 2020, and scorecam.py of
        https://github.com/haofanwang/Score-CAM; https://arxiv.org/abs/1910.01279

    Example:
        >>> import torch
        >>> score_cam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[0.5, 0.5]]))
        tensor([[[0.5000, 1.0000]],
        <BLANKLINE>
                [[0.5000, 1.0000]]])
    """
    live = activation.amax((-2, -1)) > activation.amin((-2, -1))  # (..., C)
    return _combine(probabilities * live.unsqueeze(-1), activation)


@method(
    "Score-CAM (grad-cam)",
    MASKED,
    where="late",
    masks=scaled_after_enlarging_by_corners,
    weighs_by="logit",
    opt_in=True,
)
def score_cam_pgc(activation: "Tensor", logits: "Tensor") -> "Tensor":
    """Weigh each channel by the softmax over channels of the class's logit under its mask.

    R = sum_k softmax_k(s_c(x * H_k)) A_k, as pytorch-grad-cam computes it.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        logits: of K classes under each channel's mask, ``(..., C, K)``.

    Returns:
        cams ``(..., K, h, w)``, unnormalised, >= 0 where the activation is.

    Source: ScoreCAM of https://github.com/jacobgil/pytorch-grad-cam 1.5.7

    Example:
        >>> import torch
        >>> score_cam_pgc(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[7.0, 0.0]]))
        tensor([[[1., 2.]],
        <BLANKLINE>
                [[1., 2.]]])
    """
    return _combine(logits.softmax(-2), activation)


@method(
    "Score-CAM (torchcam)",
    MASKED,
    where="late",
    masks=enlarged_after_scaling,
    weighs_by="logit",
    opt_in=True,
)
def score_cam_torchcam(activation: "Tensor", logits: "Tensor") -> "Tensor":
    """Weigh channels as ``score_cam_pgc`` does, under masks stretched on the layer's grid.

    R = sum_k softmax_k(s_c(x * H_k)) A_k, as torchcam computes it (the baseline that torchcam
    subtracts cancels in the softmax).

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        logits: of K classes under each channel's mask, ``(..., C, K)``.

    Returns:
        cams ``(..., K, h, w)``, unnormalised, >= 0 where the activation is.

    Source: ScoreCAM of https://github.com/frgfm/torch-cam 0.5.0

    Example:
        >>> import torch
        >>> score_cam_torchcam(torch.tensor([[[1.0, 2.0]]]), torch.tensor([[7.0, 0.0]]))
        tensor([[[1., 2.]],
        <BLANKLINE>
                [[1., 2.]]])
    """
    return score_cam_pgc(activation, logits)


@method("Ablation-CAM", ABLATED, where="late", linear=True)
def ablation_cam(activation: "Tensor", scores: "Tensor", ablated: "Tensor") -> "Tensor":
    """Weigh each channel by how far the class's score drops when the channel is switched off.

    R = sum_k (s_c - s_c without A_k) A_k. The paper divides the drop by s_c; that only rescales
    a positive score and turns the map of a negative one upside down, so it is left undivided.

    Args:
        activation: layer output, ``(..., C, h, w)``, any float dtype.
        scores: of the image, ``(..., K)``.
        ablated: with one channel set to zero each, ``(..., C, K)``.

    Returns:
        cams ``(..., K, h, w)``, unnormalised, signed.

    Source: Desai and Ramaswamy, Ablation-CAM, WACV 2020 (undivided),
        https://doi.org/10.1109/WACV45572.2020.9093360

    Example:
        >>> import torch
        >>> activation = torch.tensor([[[1.0, 2.0]]])
        >>> ablation_cam(activation, torch.tensor([5.0]), torch.tensor([[2.0]]))
        tensor([[[3., 6.]]])
    """
    return _combine(scores.unsqueeze(-2) - ablated, activation)


@method("Recipro-CAM", KEPT, where="late", values="relative", linear=True, max_positions=14 * 14)
def recipro_cam(activation: "Tensor", kept: "Tensor") -> "Tensor":
    """Read the class's score when a single position of the layer is kept.

    R(p) = s_c(A at p, zero elsewhere). The score of an empty layer is part of every value, so
    only differences within a map have a meaning; it is drawn from its least value up.

    Args:
        activation: layer output, ``(..., C, h, w)``; gives the grid.
        kept: scores with one position kept each, row by row, ``(..., h * w, K)``.

    Returns:
        cams ``(..., K, h, w)``, in units of the score, signed.

    Source: Byun and Lee, Recipro-CAM, CVPRW 2024 (without its optional Gaussian),
        https://arxiv.org/abs/2209.14074

    Example:
        >>> import torch
        >>> recipro_cam(torch.zeros(1, 1, 2), torch.tensor([[1.0], [3.0]]))
        tensor([[[1., 3.]]])
    """
    return kept.mT.reshape(*kept.mT.shape[:-1], *activation.shape[-2:])


@method(
    "Measured effect",
    SHARED_MASKS,
    where="network",
    values="signed",
    grid="cells",
    scope="network",
    linear=True,
    aliases=("measuredeffectmap",),
)
def measured(drops: "Tensor", fit: "Tensor") -> "Tensor":
    """Fit to each cell of the picture what covering it takes from the class's score.

    R = the least-squares fit of d_j = level + sum of R over the cells that mask j covers, with a
    small ridge (``camreport.metrics.effect``), where d_j is how far the score falls under mask j.

    Args:
        drops: of the scores of K classes under M masks, ``(..., M, K)``.
        fit: the solution, from drops to cells, ``(..., h, w, M)``.

    Returns:
        maps ``(..., K, h, w)``, in units of the score per cell, signed.

    Source: Covert, Lundberg and Lee, Explaining by Removing, JMLR 2021 (linear fit to removed
        parts, as LIME and KernelSHAP), https://arxiv.org/abs/2011.14878

    Example:
        >>> import torch
        >>> measured(torch.tensor([[4.0], [6.0]]), torch.tensor([[[1.0, 0.0], [0.5, 0.5]]]))
        tensor([[[4., 5.]]])
    """
    flat = drops.mT @ fit.flatten(-3, -2).mT  # (..., K, h * w)
    return flat.reshape(*flat.shape[:-1], *fit.shape[-3:-1])


def _combine(weight: "Tensor", activation: "Tensor") -> "Tensor":
    """Return sum_k w_kc A_k, ``(..., K, h, w)``, of weights ``(..., C, K)``."""
    flat = weight.mT @ activation.flatten(-2)  # (..., K, h * w)
    return flat.reshape(*flat.shape[:-1], *activation.shape[-2:])


def _enlarge(maps: "Tensor", size: Size, align_corners: bool) -> "Tensor":
    from torch.nn.functional import interpolate

    return interpolate(maps[:, None], size, mode="bilinear", align_corners=align_corners)[:, 0]


def _stretch(maps: "Tensor", epsilon: float = 0.0) -> "Tensor":
    """Return maps ``(M, h, w)`` from 0 to 1 each; zeros where one is constant."""
    low, high = maps.amin((-2, -1), keepdim=True), maps.amax((-2, -1), keepdim=True)
    span = high - low
    return (maps - low).div_(span.masked_fill(span == 0, 1) + epsilon)
