"""A report on many tiny images with true classes, right and wrong, sure and doubtful."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import camreport
from helpers.small import small_model

COLOURS = ("red", "green", "blue", "grey")


@pytest.fixture(scope="session")
def coloured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on 120 tiny images in folders named by their classes."""
    folder = tmp_path_factory.mktemp("many")
    model = small_model(COLOURS)
    drawn = np.random.default_rng(5)
    inputs = []
    for number in range(120):
        base = drawn.uniform(0, 255, 3)
        pixels = np.clip(drawn.normal(base, 60, (20, 24, 3)), 0, 255).astype(np.uint8)
        place = folder / COLOURS[number % 4]
        place.mkdir(exist_ok=True)
        Image.fromarray(pixels).save(place / f"img{number}.png")
        inputs.append(model.preprocessing.apply(Image.fromarray(pixels)))
    with torch.no_grad():  # so that all classes win, with all confidences
        model.module.head.weight *= 40  # type: ignore[union-attr, operator]
        logits = model.module(torch.from_numpy(np.stack(inputs)))
        model.module.head.bias -= logits.mean(0)  # type: ignore[union-attr, operator]
    out = tmp_path_factory.mktemp("report") / "g"
    camreport.run(folder, out, model=model, layers=["features.3"], classes="top3", labels="folder")
    return out
