"""The methods that ask the network again: contenders and rows.

Peers run everything once per class; camreport's further passes serve all classes.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from unittest import mock

import torch
from contenders import deviation, kept_raw
from measuring import (
    LOOSE_TOLERANCE,
    TOLERANCE,
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
from torch import Tensor, nn
from torchvision.models import AlexNet

import camreport

LAST = "features.12"

PEAK_MEMORY = """
import re, sys, torch, torchvision, camreport
model = torchvision.models.alexnet(num_classes=2)
images = torch.randn(int(sys.argv[1]), 3, 224, 224)
camreport.explain(model, images, ["features.6"], "score_cam", [0, 1])
print(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])
"""
"""A process of its own that prints the most KiB it held during Score-CAM."""


def our_map(
    model: nn.Module, images: Tensor, method: str, layer: str, targets: Sequence[int]
) -> Tensor:
    """Compute one method's raw maps at one layer, ``(N, K, h, w)``."""
    return camreport.explain(model, images, [layer], method, targets).maps[method][layer]


def gradcam_map(
    model: nn.Module, images: Tensor, peer: str, layer: str, targets: Sequence[int]
) -> Tensor:
    """Compute the same by grad-cam: one call per class, its progress bars switched off."""
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    with (
        mock.patch("tqdm.tqdm", iter),
        getattr(pytorch_grad_cam, peer)(model, [model.get_submodule(layer)]) as cam,
    ):
        raw = kept_raw(cam)
        for target in targets:
            cam(images, [ClassifierOutputTarget(target)] * len(images))
    return torch.stack(raw, 1)


def score_rows(settings: Settings) -> Iterator[Row]:
    """Compare Score-CAM with grad-cam's, and its peak memory with that of all masks at once."""
    for classes, bar in ((2, 2), (10, 8)):
        yield peer_row(
            settings,
            f"Score-CAM, {LAST}, 1 image × {classes} classes",
            ("ScoreCAM", LAST, classes),
            timed="score_cam",
            verified="score_cam_pgc",
            bar=bar,
        )
    yield memory_row()


def ablation_rows(settings: Settings) -> Iterator[Row]:
    """Compare Ablation-CAM with grad-cam's."""
    for layer, count, bar in ((LAST, 4, 50), ("features.9", 1, 5)):
        yield peer_row(
            settings,
            f"Ablation-CAM, {layer}, {count} {'image' if count == 1 else 'images'} × 2 classes",
            ("AblationCAM", layer, 2),
            count=count,
            timed="ablation_cam",
            verified="ablation_cam",
            bar=bar,
        )


def peer_row(
    settings: Settings,
    what: str,
    peer: tuple[str, str, int],
    timed: str,
    verified: str,
    bar: float,
    count: int = 1,
) -> Row:
    """Compare one of our methods with grad-cam's.

    Args:
        settings: how to measure.
        what: is compared.
        peer: grad-cam's class, the layer and the number of classes.
        timed: our method.
        verified: that or its variant with grad-cam's weights, whose maps must be the same.
        bar: how many times our time grad-cam should take at least.
        count: number of images.
    """
    name, layer, classes = peer
    label = f"{what}: grad-cam {installed('grad-cam') or ''}".strip()
    if not installed("grad-cam"):
        return Row(f"{label} ÷ ours", bar=bar, sign="≥", note="not installed")
    model = build_model(settings.device, classes)
    images, targets = build_images(count, settings.device), range(classes)
    theirs = gradcam_map(model, images, name, layer, targets).to(settings.device)
    tolerance = TOLERANCE
    if name == "AblationCAM":  # it divides the drops by the logit
        theirs = theirs * model(images).detach()[:, :, None, None]
        tolerance = LOOSE_TOLERANCE
    ours = our_map(model, images, verified, layer, targets)
    found = deviation({(name, layer): theirs}, {(name, layer): ours})
    times = measure(
        {
            "ours": partial(our_map, model, images, timed, layer, targets),
            "theirs": partial(gradcam_map, model, images, name, layer, targets),
        },
        settings.long_rounds,
        settings.device,
    )
    remark = "" if timed == verified else f" of {verified}"
    label += f" ÷ ours; maps{remark} within {verify(name, found, tolerance):.0g}"
    return compare(label, times["ours"], times["theirs"], bar, "≥")


def memory_row() -> Row:
    """Compare the peak memory of Score-CAM for 8 images with that for one."""
    count, channels = 8, 384
    masked = count * channels * 3 * 224 * 224 * 4 / 2**20
    what = (
        f"Score-CAM at features.6, {count} images ÷ 1, peak memory of the process; all masked "
        f"images at once would be {digits(masked)} MiB"
    )
    if not Path("/proc/self/status").exists():
        return Row(what, note="needs Linux")
    many, few = (int(python("-c", PEAK_MEMORY, str(n))) / 1024 for n in (count, 1))
    return Row(what, f"{digits(many)} MiB", f"{digits(few)} MiB", value=many / few)


def recipro_rows(settings: Settings) -> Iterator[Row]:
    """Compare Recipro-CAM with one forward pass per image."""
    count = 16
    model = build_model(settings.device)
    images, targets = build_images(count, settings.device), (0, 1)
    ours = our_map(model, images, "recipro_cam", LAST, targets)
    plain = plain_recipro(model, images).mT.reshape(ours.shape)
    found = deviation({("recipro_cam", LAST): plain}, {("recipro_cam", LAST): ours})
    contenders: dict[str, Callable[[], object]] = {
        "ours": partial(our_map, model, images, "recipro_cam", LAST, targets),
        "in one batch": partial(forward, model, [images]),
        "one by one": partial(forward, model, list(images.split(1))),
    }
    forward(model, [images])
    times = measure(contenders, settings.rounds, settings.device)
    for name, bar in (("in one batch", 3), ("one by one", None)):
        yield compare(
            f"Recipro-CAM, {LAST}, {count} images ÷ their forward passes {name}; "
            f"maps within {verify('recipro_cam', found):.0g} of a plain loop's",
            times["ours"],
            times[name],
            bar,
        )


@torch.no_grad()
def forward(model: nn.Module, batches: Sequence[Tensor]) -> None:
    """Run nothing but the model."""
    for batch in batches:
        model(batch)


@torch.no_grad()
def plain_recipro(model: AlexNet, images: Tensor) -> Tensor:
    """Compute the logits with one position of ``features.12`` kept, one by one: ``(N, 36, 2)``."""
    activation = model.features(images)  # (N, 256, 6, 6)
    found = []
    for row in range(activation.shape[2]):
        for column in range(activation.shape[3]):
            kept = torch.zeros_like(activation)
            kept[:, :, row, column] = activation[:, :, row, column]
            found.append(model.classifier(model.avgpool(kept).flatten(1)))
    return torch.stack(found, 1)
