"""The evidence for maps: its passes beside bare forwards, and beside Quantus."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from contenders import GRADIENT_METHODS, READS, TARGETS
from measuring import (
    Row,
    Settings,
    build_images,
    build_model,
    compare,
    installed,
    measure,
    verify,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from camreport import Explainer
from camreport.engine.explainer import FUSED
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.effect import COVERED, MASKS, cell_of_pixel, shared_masks
from camreport.metrics.order import STEPS
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.pipeline.evidence.effect import measure_effect
from camreport.pipeline.evidence.orders import measure_orders
from camreport.results.schema import MapKey

METHODS = (*GRADIENT_METHODS, "eigen_cam")
"""Seven methods, so that an image has 70 maps at five layers for two classes."""

CHUNK = 32
"""Images in one forward pass, as the engine's budget allows on the CPU."""

QUANTUS_MAPS = 7
"""Maps that Quantus measures in each round: those of one layer and class, a tenth of all."""


@dataclass(frozen=True)
class Case:
    """A model, images and the batch of evidence about their maps."""

    model: nn.Module
    images: Tensor
    batch: EvidenceBatch

    @classmethod
    def of(cls, settings: Settings, count: int) -> "Case":
        """Explain images: five layers, seven methods, two classes."""
        model, images = build_model(settings.device), build_images(count, settings.device)
        explainer = Explainer(model, list(READS), METHODS, input_shape=(3, 224, 224))
        found = explainer.explain(images, list(TARGETS))
        maps = {
            MapKey(method, layer): maps.expand(-1, len(TARGETS), -1, -1).cpu().numpy()
            for method, by_layer in found.maps.items()
            for layer, maps in by_layer.items()
            if layer != FUSED
        }
        batch = EvidenceBatch(
            explainer=explainer,
            inputs=images.cpu().numpy(),
            maps=maps,
            controls={},
            targets=found.targets.cpu().numpy(),
            logits=found.logits.cpu().numpy(),
            indices=np.arange(count),
            preprocessing=Preprocessing(),
            seed=0,
        )
        return cls(model, images, batch)


def evidence_rows(settings: Settings) -> Iterator[Row]:
    """Compare effect and order with their forwards, and effect with Quantus."""
    case = Case.of(settings, 1)
    yield effect_row(settings, case)
    yield order_row(settings, case)
    yield quantus_row(settings, case)


def effect_row(settings: Settings, case: Case) -> Row:
    """Compare the effect of all maps of an image with its masked forwards alone."""
    masked = masked_images(case)
    found = deviation_of_effect(case, masked)
    times = measure(
        {
            "ours": partial(measure_effect, case.batch),
            "bare": partial(forwards, case.model, masked),
        },
        settings.rounds,
        settings.device,
    )
    return compare(
        f"effect of 70 maps of an image ÷ {MASKS} bare forwards in the same batches; numbers "
        f"within {verify('effect', found, 1e-3):.0g}",
        times["ours"],
        times["bare"],
        1.15,
    )


def order_row(settings: Settings, case: Case) -> Row:
    """Compare the order of an image's maps with its forwards alone."""
    count = measure_orders(case.batch).cost.variants
    images = case.images[:1].expand(count, -1, -1, -1).contiguous()
    times = measure(
        {
            "ours": partial(measure_orders, case.batch),
            "bare": partial(forwards, case.model, images),
        },
        settings.rounds,
        settings.device,
    )
    orders = (count - 1) // (2 * (STEPS - 1))
    what = f"order of {orders} maps of an image ÷ its {count} bare forwards in the same batches"
    return compare(what, times["ours"], times["bare"], 1.2)


def quantus_row(settings: Settings, case: Case) -> Row:
    """Compare the effect of all maps with Quantus, which masks the image again for each map."""
    what = f"effect of 70 maps of an image, {MASKS} masks: Quantus"
    try:
        from quantus import FaithfulnessCorrelation
    except ImportError:
        return Row(f"{what} ÷ ours", bar=40, sign="≥", note="not installed")
    peer = FaithfulnessCorrelation(
        nr_runs=MASKS,
        subset_size=round(COVERED * case.images[0].numel()),
        perturb_baseline="black",
        return_aggregate=False,
        disable_warnings=True,
    )
    keys = [key for key in case.batch.maps if key.layer == [*READS][-1]]
    assert len(keys) == QUANTUS_MAPS
    maps = np.stack([enlarged(case, case.batch.maps[key][0, 0]) for key in keys])
    inputs = np.repeat(case.batch.inputs, len(keys), 0)

    def theirs() -> object:
        classes = np.zeros(len(keys), dtype=int)
        return peer(case.model, inputs, classes, maps[:, None], channel_first=True)

    theirs()
    times = measure(
        {"ours": partial(measure_effect, case.batch), "quantus": theirs},
        settings.long_rounds,
        settings.device,
    )
    tenfold = [time * 10 for time in times["quantus"]]
    label = f"{what} {installed('quantus')} (a tenth of the maps, times 10) ÷ ours"
    return compare(label, times["ours"], tenfold, 40, "≥")


def masked_images(case: Case) -> Tensor:
    """Return the first image under each mask, ``(M, 3, H, W)``."""
    masks = shared_masks((8, 8), 0)
    cells = cell_of_pixel((8, 8), (224, 224))
    kept = torch.from_numpy(~masks.covered[:, cells]).to(case.images)
    return case.images[0] * kept[:, None]


def forwards(model: nn.Module, images: Tensor) -> Tensor:
    """Run bare forwards in the engine's batches."""
    with torch.no_grad():
        return torch.cat([model(part) for part in images.split(CHUNK)])


def deviation_of_effect(case: Case, masked: Tensor) -> float:
    """Return the largest difference from numbers that are computed map by map."""
    from scipy.stats import spearmanr

    logits = forwards(case.model, torch.cat([case.images[:1], masked])).cpu().double().numpy()
    drops, covered = logits[0] - logits[1:], shared_masks((8, 8), 0).covered
    halves = (slice(MASKS // 2), slice(MASKS // 2, None))
    ours, worst = measure_effect(case.batch).values, 0.0
    for key, maps in case.batch.maps.items():
        for slot in range(len(TARGETS)):
            large = enlarged(case, maps[0, slot]).reshape(8, 28, 8, 28).mean((1, 3)).ravel()
            sums, own = covered @ large, drops[:, slot]
            plain = np.mean([spearmanr(sums[half], own[half]).statistic for half in halves])
            worst = max(worst, abs(plain - ours[f"effect/{key}"].numbers[0, slot]))
    return worst


def enlarged(case: Case, cam: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a map at the size of the image, enlarged by torch."""
    large = nn.functional.interpolate(
        torch.from_numpy(cam)[None, None], case.images.shape[-2:], mode="bilinear"
    )
    return large[0, 0].numpy()
