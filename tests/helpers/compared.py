"""Runs of tiny models on the same photographs, to compare."""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from camreport.models.loaded import LoadedModel
from helpers.runs import run, tiny

COUNT = 36
"""Photographs of the two classes together."""


def stripes(folder: Path, count: int = COUNT) -> Path:
    """Fill folders ``across`` and ``upright`` with noisy stripes, hard to tell apart."""
    random = np.random.default_rng(3)
    for index in range(count):
        name = ("across", "upright")[index % 2]
        wave = np.sin(np.arange(40) * 0.9 + random.uniform(0, 6))[:40]
        grid = np.broadcast_to(wave[:32, None] if name == "across" else wave, (32, 40))
        pixels = 128 + 25 * grid[..., None] + random.normal(0, 45, (32, 40, 3))
        (folder / name).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        picture.save(folder / name / f"{index:02}.png")
    return folder


def train(model: LoadedModel, photos: Path, steps: int) -> None:
    """Take some steps on all photographs at once."""
    files = sorted(photos.rglob("*.png"))
    inputs = [model.preprocessing.apply(Image.open(path).convert("RGB")) for path in files]
    images, labels = torch.from_numpy(np.stack(inputs)), [p.parent.name == "upright" for p in files]
    optimizer = torch.optim.Adam(model.module.parameters(), lr=0.003)
    for _ in range(steps):
        loss = nn.functional.cross_entropy(model.module(images), torch.tensor(labels).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


def epochs(folder: Path) -> list[Path]:
    """Run a network on its photographs after each of two epochs; return the folders of the runs."""
    photos, model, found = stripes(folder / "photos"), tiny(), []
    for epoch in (1, 2):
        train(model, photos, 6)
        out = folder / f"epoch-{epoch}"
        run(
            photos, out, model, labels="folder", class_names=["across", "upright"], evidence="basic"
        )
        found.append(out)
    return found
