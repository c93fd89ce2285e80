"""Controls: maps that know nothing of the model, measured beside every method.

Evidence and report make the same control map from the same photograph, seed and index.
"""

import math

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

CONTROLS = ("control:random", "control:gaussian", "control:edges")
"""The controls, as rows of tables: the order of ``control_maps``."""

GAUSSIAN_WIDTH = 0.25
"""Standard deviation of the centred Gaussian, as a fraction of each side of the picture."""


def control_maps(
    edges: NDArray[np.float32], height: int, width: int, *, seed: int, image: int
) -> NDArray[np.float32]:
    """Return the control maps of one image on the grid of a layer.

    A random map, the same at all layers with this grid; a Gaussian in the centre; the edges of
    the photograph, averaged over the grid's cells.

    Args:
        edges: ``(H, W)``, of what the model sees of the photograph, as from ``edge_strength``.
        height: of the grid, in cells.
        width: of the grid, in cells.
        seed: of everything random in the run.
        image: index of the image among the run's inputs.

    Returns:
        ``(3, height, width)``, in the order of ``CONTROLS``, 0 or more.

    Source: the centre box of Zhang et al., Top-down Neural Attention by Excitation Backprop, 2016,
        https://arxiv.org/abs/1608.00507; the edge detector of Adebayo et al., Sanity Checks for
        Saliency Maps, 2018, https://arxiv.org/abs/1810.03292
    """
    noise = np.random.default_rng([seed, image, height, width]).random((height, width))
    rows, columns = (((np.arange(side) + 0.5) / side - 0.5) for side in (height, width))
    distances = (rows[:, None] ** 2 + columns**2) / GAUSSIAN_WIDTH**2
    averaged = cv2.resize(edges, (width, height), interpolation=cv2.INTER_AREA)
    return np.stack([noise, np.exp(-distances / 2), averaged]).astype(np.float32)


def edge_strength(pixels: NDArray[np.uint8] | NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the length of the gradient of an image's brightness after Sobel, ``(H, W)``.

    Brightness is 0.299 red + 0.587 green + 0.114 blue (ITU-R BT.601).

    Args:
        pixels: RGB ``(H, W, 3)``, in any unit.

    Source: Sobel and Feldman, A 3x3 isotropic gradient operator for image processing, 1968.

    Example:
        >>> step = np.zeros((3, 4, 3), np.float32)
        >>> step[:, 2:] = 1
        >>> edge_strength(step).round(3)[1]
        array([0., 4., 4., 0.], dtype=float32)
    """
    grey = cv2.cvtColor(np.asarray(pixels, np.float32), cv2.COLOR_RGB2GRAY)
    across, down = (cv2.Sobel(grey, cv2.CV_32F, *axis) for axis in ((1, 0), (0, 1)))
    # The last bits of cv2.magnitude depend on where in memory an image lies.
    return np.asarray(np.sqrt(across * across + down * down), np.float32)


def seen_pixels(
    photo: NDArray[np.uint8], seen: tuple[float, float, float, float], height: int, width: int
) -> NDArray[np.uint8]:
    """Return what the model sees of a photograph, at the size of its input.

    Args:
        photo: RGB ``(H, W, 3)``, the whole photograph at any size.
        seen: left, top, right and bottom of what the model sees, as fractions of the photograph;
            beyond it all is black, as it is in the model input.
        height: of the model input, in pixels.
        width: of the model input, in pixels.

    Returns:
        RGB ``(height, width, 3)``.
    """
    tall, wide = photo.shape[:2]
    box = [fraction * side for fraction, side in zip(seen, (wide, tall) * 2, strict=True)]
    left, top = (min(0, math.floor(start)) for start in box[:2])
    right, bottom = (max(side, math.ceil(end)) for side, end in ((wide, box[2]), (tall, box[3])))
    padded = Image.fromarray(photo).crop((left, top, right, bottom))
    part = (box[0] - left, box[1] - top, box[2] - left, box[3] - top)
    return np.asarray(padded.resize((width, height), Image.Resampling.BILINEAR, part))
