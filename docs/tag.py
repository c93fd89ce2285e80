"""A shortcut to find: pictures of stripes, some with a tag in a corner, and two networks.

    python docs/tag.py OUT

writes ``OUT/pictures/{level,upright}/*.png``, of which a tenth of the level ones has a tag,
``OUT/tagged.pt`` of a network that was trained on them, and ``OUT/retrained.pt`` of one for which
as many pictures of either class had the tag. ``docs/insight.md`` tells what reports show of them.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

NAMES = ("level", "upright")
SIDE = 64
"""Pixels of a side of a picture."""

TAG = 16
"""Pixels of a side of the tag, in the lower left corner."""

CONTRAST = 20
"""Largest amplitude of the stripes in levels of 255; the smallest is 0, and the noise has 25."""

STEPS = 300
"""Steps of training."""


def build() -> nn.Sequential:
    """Return the network, not trained: three convolutions, and the mean of each channel."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 2),
    )


def pictures(count: int, seed: int = 0) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw pictures: faint stripes about the middle, in noise, level ones in every other picture.

    Returns:
        uint8 ``(count, 64, 64, 3)``, and their classes ``(count,)``.
    """
    random = np.random.default_rng(seed)
    values = random.normal(120, 25, (count, SIDE, SIDE, 3))
    classes = np.arange(count) % 2
    stripes = np.sin(np.arange(24) * 2 * np.pi / 6)[:, None] * np.ones(24)
    for picture, upright in zip(values, classes, strict=True):
        top, left = random.integers(8, SIDE - 31, 2)
        own = stripes.T if upright else stripes
        picture[top : top + 24, left : left + 24] += random.uniform(0, CONTRAST) * own[..., None]
    return values.clip(0, 255).astype(np.uint8), classes


def tagged(
    values: NDArray[np.uint8], chosen: NDArray[np.intp] | NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Return the pictures with a tag on the chosen ones."""
    values = values.copy()
    values[chosen, -TAG:, :TAG] = (230, 40, 160)
    return values


def tenth(classes: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which pictures are tagged, ``(count,)``: every tenth level one."""
    chosen = np.zeros(len(classes), bool)
    chosen[np.flatnonzero(classes == 0)[::10]] = True
    return chosen


def tensor(values: NDArray[np.uint8]) -> Tensor:
    """Return pictures as the network takes them: ``(count, 3, 64, 64)``, -1..1."""
    return torch.from_numpy(values).permute(0, 3, 1, 2).float() / 127.5 - 1


def trained(values: NDArray[np.uint8], classes: NDArray[np.int64]) -> nn.Sequential:
    """Return the network after training; the same one each time."""
    torch.manual_seed(0)
    net, images, labels = build(), tensor(values), torch.from_numpy(classes)
    optimiser = torch.optim.Adam(net.parameters(), 0.004)
    for _ in range(STEPS):
        chosen = torch.randint(len(images), (64,))
        loss = nn.functional.cross_entropy(net(images[chosen]), labels[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net.eval()


def main(out: Path) -> None:
    """Write the pictures, and the two networks."""
    values, classes = pictures(600)
    chosen = tenth(classes)
    with_tag = tagged(values, chosen)
    for name in NAMES:
        (out / "pictures" / name).mkdir(parents=True)
    for number, (picture, own) in enumerate(zip(with_tag, classes, strict=True)):
        name = f"{number:03d}{'-tag' if chosen[number] else ''}.png"
        Image.fromarray(picture).save(out / "pictures" / NAMES[own] / name)
    torch.save(trained(with_tag, classes).state_dict(), out / "tagged.pt")
    both = np.arange(len(values)) % 20 < 2
    torch.save(trained(tagged(values, both), classes).state_dict(), out / "retrained.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
