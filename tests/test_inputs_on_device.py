"""Pixels are standardised on the model's device: on the CPU the bits are NumPy's."""

import io
from itertools import product

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from camreport.engine.inputs import model_inputs
from camreport.images.loading import load_image
from camreport.images.preprocessing import Preprocessing

CPU = torch.device("cpu")
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
CAFFE = ((104.0, 117.0, 123.0), (1.0, 57.375, 0.017))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def every_value(seed: int) -> NDArray[np.uint8]:
    """Pixels ``(16, 48, 3)`` that hold each of the 256 values in each channel."""
    random = np.random.default_rng(seed)
    channels = [random.permutation(np.repeat(np.arange(256, dtype=np.uint8), 3)) for _ in range(3)]
    return np.stack(channels, -1).reshape(16, 48, 3)


def png(image: Image.Image) -> bytes:
    """Return an image as a PNG file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def by_numpy(pixels: NDArray[np.uint8], own: Preprocessing) -> NDArray[np.float32]:
    """Standardise an image one step and one channel after the other, in float32."""
    order = (2, 1, 0) if own.channel_order == "bgr" else (0, 1, 2)
    white = np.float32(255 if own.scale == 1 else 1)
    planes = [pixels[:, :, channel].astype(np.float32) for channel in order]
    return np.stack(
        [
            ((plane / white if own.scale == 1 else plane) - np.float32(mean)) / np.float32(std)
            for plane, mean, std in zip(planes, own.mean, own.std, strict=True)
        ]
    )


@pytest.mark.parametrize(
    ("numbers", "order", "scale"), [*product((IMAGENET, CAFFE, HALF), ("rgb", "bgr"), (1, 255))]
)
def test_the_device_gives_the_bits_of_numpy(
    numbers: tuple[tuple[float, float, float], tuple[float, float, float]], order: str, scale: int
) -> None:
    own = Preprocessing((16, 48), mean=numbers[0], std=numbers[1], channel_order=order, scale=scale)
    pixels = [every_value(seed) for seed in range(3)]
    expected = np.stack([by_numpy(one, own) for one in pixels])
    inputs = model_inputs(pixels, own, CPU)
    assert inputs.is_contiguous()
    assert inputs.numpy().tobytes() == expected.tobytes()
    assert own.standardised(np.stack(pixels)).tobytes() == expected.tobytes()


@pytest.mark.parametrize("resize", ["squash", "short-side"])
@pytest.mark.parametrize("filter_", ["bilinear", "bicubic"])
def test_a_loaded_photograph_has_the_bits_of_the_prepared_one(resize: str, filter_: str) -> None:
    photograph = Image.fromarray(every_value(4))
    own = Preprocessing(
        (20, 20),
        resize=resize,
        short_side=24 if resize == "short-side" else None,
        interpolation=filter_,
    )
    loaded = load_image(png(photograph), own)
    inputs = model_inputs([loaded.pixels], own, CPU)
    assert inputs[0].numpy().tobytes() == own.apply(photograph).tobytes()


@pytest.mark.parametrize("largest", [65535, 1000])
def test_deep_pixels_are_bytes_once_they_are_decoded(largest: int) -> None:
    """Also those that are stretched: no bit of theirs is lost on the way to the device."""
    values = np.linspace(0, largest, 400).astype(np.uint16).reshape(20, 20)
    own = Preprocessing((20, 20), mean=(0, 0, 0), std=(1, 1, 1), scale=255)
    loaded = load_image(png(Image.fromarray(values)), own)
    expected = np.floor(values.astype(float) * 255 / largest + 0.5)
    assert loaded.pixels.dtype == np.uint8
    np.testing.assert_array_equal(model_inputs([loaded.pixels], own, CPU)[0, 1], expected)
