"""Tests whether the cells of a grid correspond to positions in the image.

Attention matrices, tables of position biases, gram matrices and pooled channels can have the
shape of a feature map. To detect them, one quarter of the image is replaced by that of another
image: in a feature map, the same quarter of the cells changes most.

With random weights, a change can spread over all cells of a feature map as well. So the test is
made only for tokens, and in networks that multiply activations by activations: elsewhere the cells
are always positions.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from camreport.network.grid import Grid

QUARTERS = ((0, 0), (0, 1), (1, 0), (1, 1))
"""Row and column of each quarter: 0 is the upper or left half, 1 the lower or right half."""

MIN_SIDE = 4
"""Smallest number of rows and columns of a grid that is tested."""

MIN_OWN_FRACTIONS = {4: 0.26, 3: 0.3}
"""Smallest mean fraction of the change in the replaced quarter of a map's cells, by the number
of quarters that change most when they are replaced; for unrelated cells the fraction is 1/4."""

SEED = 2**31 - 1
"""Random seed of the second probe image; a user's own noise is unlikely to have the same seed."""

PROBES = 2 + len(QUARTERS)
"""Number of images that ``probe_images`` returns."""


def probe_images(image: Tensor) -> Tensor:
    """Return probe images ``(6, C, H, W)``: an image, noise, and mixtures of the two.

    Each of the four mixtures is the image with one quarter replaced by that of the noise.

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
    """Detects products of activations with each other, as in attention and gram matrices.

    Attributes:
        found: whether such a product was computed while the mode was on.
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
        """Run an operation and check its name."""
        if "bmm" in str(func) or "scaled_dot_product" in str(func):
            self.found = True
        return func(*args, **(kwargs or {}))


def why_no_map(output: Tensor, alone: Tensor, grid: Grid, products: bool) -> str:
    """Return why a module's output is not a map of the images, or an empty text if it is one.

    Args:
        output: the module's output for the images of ``probe_images``.
        alone: the module's output for the first of these images by itself.
        grid: the layout of both outputs.
        products: whether the network multiplies activations by each other.
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
    """Return whether an image has another output by itself than among the probe images."""
    sizes = alone.detach().nan_to_num(posinf=0, neginf=0).abs()
    scale = float(sizes.max()) if sizes.numel() else 0.0
    return not torch.allclose(output[:1], alone, rtol=0, atol=1e-3 * scale, equal_nan=True)


def show_places(cells: Tensor) -> bool:
    """Return whether the cells of a grid change where the image changes.

    Args:
        cells: values for the images of ``probe_images``, ``(6, C, h, w)``. The result is True if
            nothing changes, and for a grid below 4 × 4, whose cells depend on the whole image.
    """
    changes = cells[2:] - cells[:1]
    changes = (changes - changes.mean((-2, -1), keepdim=True)).square().sum(1)  # (4, h, w)
    measured = changes.isfinite().all() and changes.flatten(1).any(1).all()
    if min(changes.shape[-2:]) < MIN_SIDE or not measured:
        return True
    found = torch.stack([_quarter(changes, quarter).mean((-2, -1)) for quarter in QUARTERS], 1)
    found = found / found.sum(1, keepdim=True)  # (exchanged quarter, quarter of the cells)
    own = float(found.diagonal().mean())
    found = found / found.sum(0, keepdim=True)  # some cells change more than others in any case
    most = found.argmax(1) == torch.arange(len(QUARTERS), device=found.device)
    return own > MIN_OWN_FRACTIONS.get(int(most.sum()), 1.0)


def _is_matrix_of_places(output: Tensor, grid: Grid) -> bool:
    """Return whether the channels of tokens are positions too, as in ``(N, tokens, tokens)``."""
    square = output.ndim == 3 and output.shape[1] == output.shape[2]
    return square and grid.prefix is not None and show_places(grid.read(output.mT).double())


def _quarter(values: Tensor, quarter: tuple[int, int]) -> Tensor:
    """Return one quarter of the last two axes; a middle row or column is in none of them."""
    parts = [
        slice(size - size // 2, size) if half else slice(size // 2)
        for half, size in zip(quarter, values.shape[-2:], strict=True)
    ]
    return values[..., parts[0], parts[1]]
