"""Whether the cells of a grid show places of the image.

Attention matrices, tables of position biases, gram matrices and pooled channels can have the
shape of a feature map. What they lack shows when one quarter of the image is exchanged for that
of another image: in a map, it is that quarter of the cells that changes most.

Random weights can spread a change over all cells of a true map, too. So this is asked only where
cells can be something else: of tokens, and in networks that multiply activations by activations.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from camreport.network.grid import Grid

QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Rows and columns of the quarters: upper or lower, left or right."""

MIN_SIDE = 4
"""Rows and columns from which on a grid is tested."""

MIN_OWN_SHARES = {4: 0.26, 3: 0.3}
"""Fraction of the change that lies in the exchanged quarter, by the number of quarters that change
most when they are exchanged; it is 1/4 where cells are no places."""

SEED = 2**31 - 1
"""Random seed of the second probe image; unlikely to be the seed of a user's own noise."""

PROBES = 2 + len(QUARTERS)
"""Images that ``probe_images`` makes of one."""


def probe_images(image: Tensor) -> Tensor:
    """Return an image, another, and the first with one quarter of the other each, ``(6, C, H, W)``.

    Args:
        image: ``(1, C, H, W)``.
    """
    other = torch.randn(image.shape, generator=torch.Generator().manual_seed(SEED)).to(image)
    mixed = []
    for quarter in QUARTERS:
        mixed.append(image.clone())
        _quarter(mixed[-1], quarter).copy_(_quarter(other, quarter))
    return torch.cat([image, other, *mixed])


class MatrixProducts(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes whether activations are multiplied by each other, as in attention and gram matrices.

    Attributes:
        found: whether one such product was computed while the mode was on.
    """

    found = False

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """Keep torch from importing its compiler at the first operation."""
        return False

    def __torch_dispatch__(
        self,
        func: torch._ops.OpOverload,
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        """Run an operation and look at its name."""
        if "bmm" in str(func) or "scaled_dot_product" in str(func):
            self.found = True
        return func(*args, **(kwargs or {}))


def why_no_map(output: Tensor, alone: Tensor, grid: Grid, products: bool) -> str:
    """Say why a module's output is no map of the images, or nothing if it is one.

    Args:
        output: of the images of ``probe_images``.
        alone: of the first of them by itself.
        grid: how both are read.
        products: the network multiplies activations by each other.
    """
    if len(output) != PROBES or len(alone) != 1:
        return (
            f"{tuple(alone.shape)} for one image and {tuple(output.shape)} for {PROBES}: "
            "its first axis is not the images"
        )
    cells = grid.read(output).double()
    if cells[:2].any() and torch.equal(cells[0], cells[1]):
        return "the same values for every image"
    if not (products or output.ndim == 3):
        return ""
    if not show_places(cells) or _is_matrix_of_places(output, grid):
        return "values that do not belong to places of the image"
    return ""


def depends_on_company(output: Tensor, alone: Tensor) -> bool:
    """Say whether an image by itself gives something else than among the probe images."""
    scale = float(alone.detach().abs().max()) if alone.numel() else 0.0
    return not torch.allclose(output[:1], alone, rtol=0, atol=1e-3 * scale, equal_nan=True)


def show_places(cells: Tensor) -> bool:
    """Say whether the cells of a grid change where the image does.

    Args:
        cells: of the images of ``probe_images``, ``(6, C, h, w)``. Where nothing changes, or of
            a grid below 4 × 4, whose cells see all of the image, nothing speaks against it.
    """
    changes = cells[2:] - cells[:1]
    changes = (changes - changes.mean((-2, -1), keepdim=True)).square().sum(1)  # (4, h, w)
    measured = changes.isfinite().all() and changes.flatten(1).any(1).all()
    if min(changes.shape[-2:]) < MIN_SIDE or not measured:
        return True
    found = torch.stack([_quarter(changes, quarter).mean((-2, -1)) for quarter in QUARTERS], 1)
    found = found / found.sum(1, keepdim=True)  # (exchanged quarter, quarter of the cells)
    own = float(found.diagonal().mean())
    found = found / found.sum(0, keepdim=True)  # some cells change more than others for any reason
    most = found.argmax(1) == torch.arange(len(QUARTERS), device=found.device)
    return own > MIN_OWN_SHARES.get(int(most.sum()), 1.0)


def _is_matrix_of_places(output: Tensor, grid: Grid) -> bool:
    """Say whether the channels of tokens are places as well, as in ``(N, tokens, tokens)``."""
    square = output.ndim == 3 and output.shape[1] == output.shape[2]
    return square and grid.prefix is not None and show_places(grid.read(output.mT).double())


def _quarter(values: Tensor, quarter: tuple[int, int]) -> Tensor:
    """Return one quarter of the last two axes; a middle row or column is in none of them."""
    parts = [
        slice(size - size // 2, size) if place else slice(size // 2)
        for place, size in zip(quarter, values.shape[-2:], strict=True)
    ]
    return values[..., parts[0], parts[1]]
