"""What of a raw map is drawn and measured, for any number of maps at once.

raw maps ─▶ strongest channel ─▶ strongest colour ─▶ from the base up
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from camreport.methods import Method


@dataclass(frozen=True)
class Drawn:
    """The drawn part of maps with any leading axes.

    Attributes:
        cams: ``(..., h, w)``; of maps in colours the strongest one at each pixel.
        base: ``(...)``, the value that is drawn as zero: the least one of a map where only
            differences mean something, else 0.
        channel: ``(...)``, the channel that is drawn, of a method that keeps channels apart.
    """

    cams: NDArray[np.float32]
    base: NDArray[np.float32]
    channel: NDArray[np.intp] | None

    @property
    def values(self) -> NDArray[np.float32]:
        """The maps from their base up, ``(..., h, w)``; infinite where that overflows."""
        with np.errstate(over="ignore"):
            return self.cams - self.base[..., None, None]


def drawn(cams: NDArray[np.float32], method: Method, leading: int = 0) -> Drawn:
    """Return what is drawn of a method's raw maps.

    Args:
        cams: ``(..., h, w)``; ``(..., 3, H, W)`` in colours; ``(..., C, h, w)`` of channels.
        method: whose they are.
        leading: number of axes before those of one map.
    """
    channel = None
    if method.per_channel:
        channel = np.nan_to_num(cams).sum((-2, -1), dtype=np.float64).argmax(-1)
        cams = np.take_along_axis(cams, channel[..., None, None, None], -3)[..., 0, :, :]
    elif cams.ndim - leading == 3:
        strongest = np.abs(cams).argmax(-3)[..., None, :, :]
        cams = np.take_along_axis(cams, strongest, -3)[..., 0, :, :]
    base = np.zeros(cams.shape[:-2], np.float32)
    if method.values == "relative":
        finite = np.isfinite(cams).all((-2, -1))
        base = np.where(finite, cams.min((-2, -1)), base)
    return Drawn(cams, base, channel)
