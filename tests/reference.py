"""Slow oracles written from the papers in float64: what the fast code must equal."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor


def grad_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Selvaraju et al. 2017, eq. 1 (w_k: average of the gradient) and eq. 2 before its ReLU."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for k in range(channels):
        weight = math.fsum(value for row in g[k] for value in row) / (height * width)
        for i in range(height):
            for j in range(width):
                cam[i, j] += weight * a[k][i][j]
    return cam


def layer_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Jiang et al. 2021, eq. 6 (w = relu of the gradient), 7 and 8 before its ReLU."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for k in range(channels):
        for i in range(height):
            for j in range(width):
                if g[k][i][j] > 0:
                    cam[i, j] += g[k][i][j] * a[k][i][j]
    return cam


def hires_cam(activation: Tensor, gradient: Tensor) -> Tensor:
    """Draelos and Carin 2020, eq. 3: the sum over channels of gradient times activation."""
    channels, height, width = activation.shape
    a, g = activation.double().tolist(), gradient.double().tolist()
    cam = torch.zeros(height, width, dtype=torch.float64)
    for i in range(height):
        for j in range(width):
            cam[i, j] = math.fsum(g[k][i][j] * a[k][i][j] for k in range(channels))
    return cam


def normalise(cam: Tensor) -> Tensor:
    """Divide the positive part by the maximum; a map without positive values becomes zeros."""
    peak = max(value for row in cam.double().tolist() for value in row)
    rows = [[max(value, 0.0) / peak if peak > 0 else 0.0 for value in row] for row in cam.tolist()]
    return torch.tensor(rows, dtype=torch.float64)


def resize(cam: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize bilinearly with half-pixel centres: output pixel i looks at (i + 0.5) h / H - 0.5."""
    rows = cam.double().tolist()

    def neighbours(index: int, old: int, new: int) -> tuple[int, int, float]:
        place = min(max((index + 0.5) * old / new - 0.5, 0.0), old - 1.0)
        low = math.floor(place)
        return low, min(low + 1, old - 1), place - low

    large = torch.zeros(size, dtype=torch.float64)
    for i in range(size[0]):
        above, below, down = neighbours(i, len(rows), size[0])
        for j in range(size[1]):
            left, right, along = neighbours(j, len(rows[0]), size[1])
            upper = (1 - along) * rows[above][left] + along * rows[above][right]
            lower = (1 - along) * rows[below][left] + along * rows[below][right]
            large[i, j] = (1 - down) * upper + down * lower
    return large


def fuse(cams: Sequence[Tensor], shallow: Sequence[bool]) -> Tensor:
    """Jiang et al. 2021, eq. 9: tanh(2 M / max M) where shallow, else M / max M; the maximum.

    Args:
        cams: one map ``(h, w)`` per layer, each with a positive value or empty.
        shallow: for each of them, whether it is lifted.
    """
    grid = max((tuple(cam.shape) for cam in cams), key=math.prod)
    fused = torch.zeros(grid, dtype=torch.float64)
    for cam, lift in zip(cams, shallow, strict=True):
        scaled = normalise(cam)
        if lift:
            lifted = [[math.tanh(2 * value) for value in row] for row in scaled.tolist()]
            scaled = torch.tensor(lifted, dtype=torch.float64)
        large = resize(scaled, grid)
        for i in range(grid[0]):
            for j in range(grid[1]):
                fused[i, j] = max(float(fused[i, j]), float(large[i, j]))
    return fused
