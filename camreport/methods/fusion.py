"""LayerCAM's fusion: one map from the maps of several layers."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from camreport.settings import GAMMA


def normalise(cam: Tensor) -> Tensor:
    """Return ``relu(cam) / max(cam)`` for each map, 0..1; an empty map becomes zeros.

    Args:
        cam: raw maps, ``(..., h, w)``. A map with a NaN or infinity comes back as NaN.
    """
    peak = cam.amax((-2, -1), keepdim=True)
    scaled = cam.clamp(min=0) / peak
    scaled = torch.where(peak > 0, scaled, torch.zeros_like(scaled))
    finite = cam.isfinite().all(-1, keepdim=True).all(-2, keepdim=True)
    return torch.where(finite, scaled, torch.full_like(scaled, torch.nan))


def shallow_stages(
    sizes: Sequence[tuple[int, int]],
    stages: int | None = None,
    stage_ids: Sequence[int] | None = None,
) -> list[bool]:
    """Return for each layer whether it belongs to a shallow stage, whose maps the fusion lifts.

    Layers of one spatial size form a stage, unless the caller gives the stages. With five stages
    or more the first three are shallow; with fewer, all but the last.

    Args:
        sizes: ``(h, w)`` of each layer, in network order.
        stages: number of early stages that are shallow; by the rule above if None.
        stage_ids: stage number of each layer, from early to late; by size if None.
    """
    own = [sizes.index(size) for size in sizes] if stage_ids is None else stage_ids
    distinct = sorted(set(own))
    if stages is None:
        stages = 3 if len(distinct) >= 5 else len(distinct) - 1
    return [stage in distinct[:stages] for stage in own]


def fuse(
    cams: Sequence[Tensor],
    gamma: float = GAMMA,
    stages: int | None = None,
    stage_ids: Sequence[int] | None = None,
) -> Tensor:
    """Fuse the maps of several layers by the largest value at each position.

    Each map is normalised; shallow stages are lifted by ``tanh(gamma * M)``; all are enlarged
    (bilinear, half-pixel centres) to the largest grid; then the element-wise maximum is taken.

    Args:
        cams: raw maps ``(N, K, h, w)``, one per layer in network order; h, w may differ.
        gamma: steepness of the lift.
        stages: as for ``shallow_stages``.
        stage_ids: as for ``shallow_stages``.

    Returns:
        ``(N, K, H, W)`` on the largest grid, 0..1; zeros where every map is empty.

    Source: Jiang et al., LayerCAM, IEEE TIP 2021, eq. 9 (first three stages only)
    """
    sizes = [(cam.shape[-2], cam.shape[-1]) for cam in cams]
    grid = max(sizes, key=lambda size: size[0] * size[1])
    fused: Tensor | None = None
    for cam, shallow in zip(cams, shallow_stages(sizes, stages, stage_ids), strict=True):
        scaled = normalise(cam)
        lifted = torch.tanh(gamma * scaled) if shallow else scaled
        large = interpolate(lifted, size=grid, mode="bilinear", align_corners=False)
        fused = large if fused is None else torch.maximum(fused, large)
    assert fused is not None, "fuse needs at least one map"
    return fused
