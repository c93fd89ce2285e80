"""Stability: the maps of noisy copies of the images, and of their mirror images."""

import numpy as np
from numpy.typing import NDArray

from camreport.engine.cost import Cost
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.controls import edge_strength
from camreport.metrics.stability import stability
from camreport.metrics.values import Values
from camreport.pipeline.evidence.batch import EvidenceBatch, Measured
from camreport.pipeline.evidence.maps import controls_of, input_pixels
from camreport.pipeline.evidence.repeated import explainer_of, maps_again
from camreport.results.schema import MapKey

COPIES = 4
"""Number of noisy copies of each image."""

NOISE = 0.02
"""Greatest change of a pixel's colour, for white = 1: 5 of 255 levels."""

Maps = dict[MapKey, NDArray[np.float32]]


def measure_stability(batch: EvidenceBatch) -> Measured:
    """Measure how much maps change with noise that nobody sees, and in the mirror.

    It takes one forward pass, and one backward pass for each class, over 4 noisy copies and the
    mirror image of each image; methods with passes of their own take theirs. The edges of the
    copies are controls; the other controls are the same whatever the image.

    Returns:
        ``stability``, ``stability.correlation`` and ``stability.mirror`` ``(n, K)`` for each map
        and control; ``stability.changed`` ``(n, K)``, the number of copies left out because
        another class became the most probable one.
    """
    explainer, cost = explainer_of(batch), Cost()
    top, copies, kept = batch.logits.argmax(1), list[Maps](), []
    for copy in range(COPIES):
        noisy = batch.inputs + _noise(batch, copy)
        maps, logits, passes = maps_again(explainer, noisy, batch)
        copies.append(maps | _controls(batch, noisy))
        kept.append(logits.argmax(1) == top)
        cost += passes
    flipped = np.ascontiguousarray(batch.inputs[..., ::-1])
    mirrored, _, passes = maps_again(explainer, flipped, batch)
    mirrored |= _controls(batch, flipped)
    own, same = {**batch.maps, **_controls(batch, batch.inputs)}, np.stack(kept)
    values: dict[str, Values] = {}
    for key, maps_of_key in own.items():
        if key in mirrored:
            changed = np.stack([of[key] for of in copies])
            found = stability(maps_of_key, changed, same, mirrored[key])
            shape = batch.targets.shape
            values |= {f"{name}/{key}": each.of_shape(shape) for name, each in found.items()}
    left_out = (~same).sum(0)[:, None]
    values["stability.changed"] = Values.of(left_out).of_shape(batch.targets.shape)
    return Measured(values, cost=cost + passes)


def noise_of(
    shape: tuple[int, ...], preprocessing: Preprocessing, seed: int, image: int, copy: int
) -> NDArray[np.float32]:
    """Return the noise of one copy of an image, in units of the model input.

    Uniform in ±0.02 of white for each channel of each pixel; pixels may leave their range by it.

    Args:
        shape: ``(3, H, W)`` of the model input.
        preprocessing: turns pixels into units of the model input.
        seed: of everything random in the run.
        image: index of the image among the run's inputs.
        copy: number of the copy.
    """
    pixels = np.random.default_rng([seed, image, copy]).uniform(-NOISE, NOISE, shape)
    unit = preprocessing.scale / np.array(preprocessing.std)[:, None, None]
    return (pixels * unit).astype(np.float32)


def _noise(batch: EvidenceBatch, copy: int) -> NDArray[np.float32]:
    """Return the noise of one copy of each image, ``(n, 3, H, W)``."""
    recipe = batch.inputs.shape[1:], batch.preprocessing, batch.seed
    return np.stack([noise_of(*recipe, int(image), copy) for image in batch.indices])


def _controls(batch: EvidenceBatch, inputs: NDArray[np.float32]) -> Maps:
    """Return the control maps of model inputs at the layers of the batch's controls."""
    grids = {key.layer: maps.shape[-2:] for key, maps in batch.controls.items()}
    edges = [edge_strength(pixels) for pixels in input_pixels(inputs, batch.preprocessing)]
    return controls_of(edges, grids, batch.indices, batch.seed)
