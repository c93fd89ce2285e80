"""Pixels filled in from their surroundings, for images without some of their pixels."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate, pad

TOLERANCE = 1e-5
"""Largest difference of a filled-in pixel from the mean of its neighbours, far below the noise."""

MAX_STEPS = 2000
"""Largest number of steps in which the equations are solved."""

CHECKED = 4
"""Number of steps from one check of the difference to the next."""

FINEST, GRIDS = 4, 4
"""Pixels on a side of a block in the finest of the coarser grids; number of grids, each half as
fine as the one before."""


def filled_in(images: Tensor, known: Tensor) -> Tensor:
    """Return images in which unknown pixels are weighted means of their eight neighbours.

    A neighbour beside counts 1/6 and one at a corner 1/12, among those inside the image. The
    equations of all unknown pixels are solved together, by conjugate gradients. Each step corrects
    single pixels and whole blocks of four sizes, so that what is known reaches across a large hole
    in few steps.

    Args:
        images: ``(m, C, H, W)``.
        known: bool ``(m, 1, H, W)``; one pixel of each image at least.

    Source: Rong et al. 2022, noisy linear imputation, https://arxiv.org/abs/2202.00449; the
        correction on several grids: Bramble, Pasciak and Xu, Parallel Multilevel Preconditioners,
        1990, with blocks in place of their piecewise linear functions.
    """
    unknown = (~known).to(images.dtype)
    weight = _around(torch.ones_like(unknown))
    inverse = unknown / weight
    scales = [_inverse_energy(unknown, weight, FINEST << grid) for grid in range(GRIDS)]
    filled = torch.where(known, images, _total(images * known) / _total(known))
    residual = (_around(filled) - weight * filled) * unknown
    direction = torch.zeros_like(filled)
    size, tiny = torch.ones_like(_total(filled)), torch.finfo(images.dtype).tiny
    for step in range(MAX_STEPS):
        if not step % CHECKED and float(residual.abs().amax()) <= TOLERANCE:
            break
        corrected = (residual * inverse).addcmul_(_on_blocks(residual, scales), unknown)
        before, size = size, _total(residual * corrected)
        direction = torch.addcmul(corrected, size / before.clamp(min=tiny), direction)
        product = (weight * direction).sub_(_around(direction)).mul_(unknown)
        length = size / _total(direction * product).clamp(min=tiny)
        filled.addcmul_(length, direction)
        residual.addcmul_(length, product, value=-1)
    return filled


def _total(values: Tensor) -> Tensor:
    return values.sum((-2, -1), keepdim=True)


def _around(values: Tensor) -> Tensor:
    """Return the weighted sum of the eight neighbours of each pixel of ``(..., H, W)``."""
    framed = pad(values, (1, 1, 1, 1))
    rows = (framed[..., :-2] + framed[..., 2:]).add_(framed[..., 1:-1], alpha=2)
    both = (rows[..., :-2, :] + rows[..., 2:, :]).add_(rows[..., 1:-1, :], alpha=2)
    return both.sub_(values, alpha=4).div_(12)


def _inverse_energy(unknown: Tensor, weight: Tensor, side: int) -> Tensor:
    """Return for each block how far its unknown pixels move together for a unit of residual.

    Args:
        unknown: 1 where a pixel is unknown, else 0, ``(m, 1, H, W)``.
        weight: of the neighbours of each pixel, likewise.
        side: of a block, in pixels.

    Returns:
        ``(m, 1, h, w)``; 0 where no pixel of a block is unknown.
    """
    count, _, height, width = unknown.shape
    rows, columns = -(-height // side), -(-width // side)

    def blocks(values: Tensor) -> Tensor:
        whole = pad(values, (0, columns * side - width, 0, rows * side - height))
        return whole.view(count, rows, side, columns, side).transpose(2, 3)

    own = blocks(unknown)
    energy = _total(own * (blocks(weight) * own - _around(own))).view(count, 1, rows, columns)
    some = energy > torch.finfo(energy.dtype).eps * side
    return torch.where(some, 1 / torch.where(some, energy, 1), 0)


def _on_blocks(residual: Tensor, scales: Sequence[Tensor]) -> Tensor:
    """Return the corrections of all blocks at each pixel, ``(m, C, H, W)``."""
    sums = [avg_pool2d(residual, FINEST, ceil_mode=True, divisor_override=1)]
    while len(sums) < len(scales):
        sums.append(avg_pool2d(sums[-1], 2, ceil_mode=True, divisor_override=1))
    corrected = sums[-1] * scales[-1]
    for own, scale in zip(sums[-2::-1], scales[-2::-1], strict=True):
        corrected = (own * scale).add_(_enlarged(corrected, 2, own))
    return _enlarged(corrected, FINEST, residual)


def _enlarged(blocks: Tensor, factor: int, like: Tensor) -> Tensor:
    """Return the value of the block in which each cell of a finer grid lies."""
    height, width = like.shape[-2:]
    return interpolate(blocks, scale_factor=factor, mode="nearest")[..., :height, :width]
