"""``evaluate``: evidence for the maps of an explanation, by the code that measures a run's."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from camreport.engine.asked import Classifier, check_images
from camreport.engine.explainer import Explainer
from camreport.engine.explanation import Explanation
from camreport.errors import MetricError, ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import Message, message
from camreport.messages.progress import silent
from camreport.metrics import Metric, resolve_metrics
from camreport.metrics.controls import edge_strength
from camreport.metrics.values import WORDS, Values
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.pipeline.evidence.gathered import Gathered, failure
from camreport.pipeline.evidence.kinds import kinds_of
from camreport.pipeline.evidence.maps import controls_of, grids_of, input_pixels
from camreport.results.evidence import CONTROL, NumberKey
from camreport.results.schema import MapKey
from camreport.settings import FULL

Numbers = Mapping[str, Mapping[str, Mapping[str, NDArray[np.float32]]]]
"""``numbers[number][row][layer]``."""

Reasons = Mapping[str, Mapping[str, Mapping[str, NDArray[np.str_]]]]
"""Likewise, why they are undefined."""

_Numbers = dict[str, dict[str, dict[str, NDArray[np.float32]]]]


@dataclass(frozen=True)
class Evaluation:
    """The evidence for the maps of N images, K classes each.

    Attributes:
        values: ``values[number][method][layer]`` is float32 ``(N, K)``, NaN where a number is
            undefined. A metric's first number has its key, further ones add to it:
            ``effect``, ``order.deletion``.
        reasons: likewise texts ``(N, K)``, why a number is undefined: ``constant``,
            ``not_finite``, ``no_positive``, ``no_other_class``, ``class_changed``,
            ``fixed_weights``, ``failed`` or ``not_measured``; empty where it is not.
        controls: ``controls[name][number][layer]``, the same of maps that know nothing of the
            model: ``random``, ``gaussian`` and ``edges``.
        images: ``images[number]`` ``(N, K)``, numbers that belong to no map: ``effect.ceiling``.
        curves: ``curves[number][method][layer]`` ``(N, K, T)``.
        notes: notes for the reader.
    """

    values: Numbers = field(repr=False)
    reasons: Reasons = field(repr=False)
    controls: Numbers = field(repr=False)
    images: Mapping[str, NDArray[np.float32]] = field(repr=False)
    curves: Numbers = field(repr=False)
    notes: tuple[Message, ...] = ()


def evaluate(
    model: nn.Module | Classifier,
    images: Tensor,
    explanation: Explanation,
    metrics: str | Iterable[str] = "basic",
    *,
    seed: int = 0,
) -> Evaluation:
    """Measure how much the maps of an explanation deserve belief.

    What needs passes is measured of all images and all methods. The model comes back as it was
    found. What needs collages or regions is measured by ``run`` alone.

    Args:
        model: the model that was explained.
        images: the images that were explained, ``(N, 3, H, W)``, preprocessed.
        explanation: what ``explain`` returned for them.
        metrics: ``basic``, ``full``, or names that ``camreport metrics`` lists.
        seed: of everything random.

    Raises:
        MetricError: an unknown metric, or one that needs collages or regions.
        ModelError: images of another number or shape than those explained.

    Example:
        >>> import torch
        >>> from camreport import explain
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> images = torch.rand(5, 3, 8, 8)
        >>> found = evaluate(net, images, explain(net, images, "0", targets="all"), "extent")
        >>> found.values["extent"]["layer_cam"]["0"].shape
        (5, 2)
    """
    check_images(images)
    if len(images) != len(explanation.targets):
        raise ModelError(
            f"images: expected the {len(explanation.targets)} that were explained, got "
            f"{len(images)}. Pass what explain was given."
        )
    keys = tuple(metric.key for metric in _measurable(metrics))
    preprocessing, notes = _preprocessing(model, images)
    gathered = Gathered(tuple(explanation.targets.shape))
    with Explainer.of_options(
        model, explanation.layers, explanation.options, input_shape=tuple(images.shape[1:])
    ) as explainer:
        explainer.probe(images[:1], explanation.targets[:1])
        for start in range(0, len(images), explainer.batch_size):
            rows = np.arange(start, min(start + explainer.batch_size, len(images)))
            batch = _batch(explainer, images, explanation, rows, preprocessing, seed)
            for kind in kinds_of(keys):
                own = kind.prepared(batch, FULL, silent)
                if own is not None:
                    gathered.measure(kind, rows, own)
    failures = (failure(metric, error) for metric, error in gathered.failures.items())
    return _evaluation(gathered.values(keys), (*notes, *failures))


def _measurable(metrics: str | Iterable[str]) -> list[Metric]:
    """Return the metrics that are measured of an explanation.

    Raises:
        MetricError: as for ``evaluate``.
    """
    found = resolve_metrics(metrics)
    apart = [metric for metric in found if metric.needs in ("collages", "regions")]
    left = [metric for metric in found if metric not in apart]
    if not left:
        raise MetricError(
            f"metrics: expected metrics of an explanation, got {apart[0].key!r}. Only "
            "camreport.run measures it."
        )
    return left


def _preprocessing(
    model: nn.Module | Classifier, images: Tensor
) -> tuple[Preprocessing, tuple[Message, ...]]:
    """Return the preprocessing of the images, with a note where it is not known."""
    if isinstance(model, nn.Module):
        sides = (int(images.shape[-2]), int(images.shape[-1]))
        return Preprocessing(size=sides), (message("models.preprocessing_unknown"),)
    return model.preprocessing, ()


def _batch(
    explainer: Explainer,
    images: Tensor,
    explanation: Explanation,
    rows: NDArray[np.intp],
    preprocessing: Preprocessing,
    seed: int,
) -> EvidenceBatch:
    """Return some images of an explanation as a batch."""
    inputs = images[rows].float().cpu().numpy()
    maps = {
        MapKey(method, layer): cams[rows].cpu().numpy()
        for method, by_layer in explanation.maps.items()
        for layer, cams in by_layer.items()
        if cams.ndim == 4
    }
    edges = [edge_strength(pixels) for pixels in input_pixels(inputs, preprocessing)]
    grids = grids_of(maps)
    return EvidenceBatch(
        explainer=explainer,
        inputs=inputs,
        maps=maps,
        controls=controls_of(edges, grids, rows.tolist(), seed),
        targets=explanation.targets[rows].cpu().numpy(),
        logits=explanation.logits[rows].cpu().numpy(),
        indices=rows,
        preprocessing=preprocessing,
        seed=seed,
        every_map=True,
    )


def _evaluation(numbers: Mapping[NumberKey, Values], notes: tuple[Message, ...]) -> Evaluation:
    """Return numbers and curves by their names, rows and layers."""
    values, controls, curves = _Numbers(), _Numbers(), _Numbers()
    reasons: dict[str, dict[str, dict[str, NDArray[np.str_]]]] = {}
    images: dict[str, NDArray[np.float32]] = {}
    for key, own in numbers.items():
        if not key.row:
            images[key.number] = own.numbers
        elif key.row.startswith(CONTROL):
            if own.numbers.ndim == 2:
                name = key.row.removeprefix(CONTROL)
                controls.setdefault(name, {}).setdefault(key.number, {})[key.layer] = own.numbers
        else:
            place = values if own.numbers.ndim == 2 else curves
            place.setdefault(key.number, {}).setdefault(key.row, {})[key.layer] = own.numbers
            if own.numbers.ndim == 2:
                why = reasons.setdefault(key.number, {})
                why.setdefault(key.row, {})[key.layer] = WORDS[own.reasons]
    return Evaluation(values, reasons, controls, images, curves, notes)
