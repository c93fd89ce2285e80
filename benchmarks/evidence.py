"""The evidence for maps: its passes beside bare forwards, and beside Quantus."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from contenders import GRADIENT_METHODS, READS, TARGETS
from measuring import (
    Row,
    Settings,
    build_images,
    build_model,
    compare,
    digits,
    installed,
    measure,
    python,
    verify,
)
from numpy.typing import NDArray
from torch import Tensor, nn

from camreport import Explainer
from camreport.engine.explanation import FUSED
from camreport.images.preprocessing import Preprocessing
from camreport.metrics.controls import edge_strength
from camreport.metrics.effect import COVERED, MASKS, cell_of_pixel, shared_masks
from camreport.metrics.order import STEPS
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.pipeline.evidence.effect import measure_effect
from camreport.pipeline.evidence.learned import SEEDS, measure_learned
from camreport.pipeline.evidence.maps import controls_of, input_pixels
from camreport.pipeline.evidence.orders import measure_orders
from camreport.results.schema import MapKey

INPUTS = Path(__file__).resolve().parents[1] / "inputs"

METHODS = (*GRADIENT_METHODS, "eigen_cam")
"""Seven methods, so that an image has 70 maps at five layers for two classes."""

CHUNK = 32
"""Images in one forward pass, as the engine's budget allows on the CPU."""

QUANTUS_MAPS = 7
"""Maps that Quantus measures in each round: those of one layer and class, a tenth of all."""


SAMPLE = 16
"""Images on which passes are spent at the level ``basic``."""

PEAK_MEMORY = """
import re, sys, tempfile, numpy, camreport
from pathlib import Path
from PIL import Image
count, random = int(sys.argv[1]), numpy.random.default_rng(0)
with tempfile.TemporaryDirectory() as folder:
    for number in range(count):
        pixels = random.integers(0, 256, (240, 240, 3), dtype=numpy.uint8)
        Image.fromarray(pixels).save(Path(folder, f"{number}.png"))
    camreport.run([folder], Path(folder, "out"), evidence="full", batch_size=8)
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
"""A process of its own that prints the most KiB it held during a run with all evidence: eight
images at a time, for a larger batch alone takes more."""


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
    case = Case.of(settings, SAMPLE)
    yield learned_row(settings, case, kept=False)
    yield learned_row(settings, case, kept=True)
    yield memory_row(settings)
    yield gallery_row(settings)


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


def learned_row(settings: Settings, case: Case, kept: bool) -> Row:
    """Compare the maps of three scrambled networks and their ranks with the run's own maps.

    Args:
        settings: how to measure.
        case: the model, images and maps.
        kept: whether the weights are permuted already, as for all shards of a run but its first.
    """
    edges = [edge_strength(each) for each in input_pixels(case.batch.inputs, Preprocessing())]
    grids = {key.layer: maps.shape[-2:] for key, maps in case.batch.maps.items()}
    controls = controls_of(edges, grids, case.batch.indices, case.batch.seed)
    explainer, batch = case.batch.explainer, replace(case.batch, controls=controls)

    def ours() -> None:
        with explainer:
            measure_learned(batch)

    contenders: dict[str, Callable[[], object]] = {
        "ours": ours,
        "engine": partial(explainer.explain, case.images, list(TARGETS)),
    }
    with explainer if kept else nullcontext():
        ours()
        times = measure(contenders, settings.long_rounds, settings.device)
    thrice = [time * SEEDS for time in times["engine"]]
    what = f"learned, {len(METHODS)} methods of {SAMPLE} images ÷ {SEEDS} × the engine without it"
    state = "weights permuted before" if kept else "weights permuted too"
    return compare(f"{what}; {state}", times["ours"], thrice, 1.15)


def memory_row(settings: Settings) -> Row:
    """Compare the most memory of a whole run with evidence on 64 images and on 8."""
    what = "most memory of a run with all evidence, 64 images ÷ 8"
    if settings.device != "cpu":
        return Row(what, bar=1.1, note="measured on the CPU")
    few, many = (int(python("-c", PEAK_MEMORY, count)) for count in (8, 64))
    mebibytes = (f"{digits(kib / 1024)} MiB" for kib in (many, few))
    return Row(what, *mebibytes, many / few, bar=1.1)


def gallery_row(settings: Settings) -> Row:
    """Compare a run with basic evidence with one without, each a whole process."""

    def command(level: str) -> None:
        with tempfile.TemporaryDirectory() as out:
            words = ("run", INPUTS, "-o", out, "--evidence", level, "--device", settings.device)
            python("-m", "camreport", *words, "--quiet")

    contenders: dict[str, Callable[[], object]] = {
        level: partial(command, level) for level in ("basic", "off")
    }
    measure(contenders, 1, settings.device)
    times = measure(contenders, settings.rounds, settings.device)
    what = "`camreport run inputs` as a process, with basic evidence ÷ without"
    return compare(what, times["basic"], times["off"], 1.25)


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
