"""Preprocessing: torchvision's transforms, and which part of a photograph a model sees."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from torchvision import transforms

from camreport.errors import InputError
from camreport.images.preprocessing import Preprocessing


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


ODD_SIZES = [(97, 61), (61, 97), (224, 224), (300, 225), (225, 301), (500, 31), (17, 19)]


@pytest.mark.parametrize("size", ODD_SIZES)
@pytest.mark.parametrize(
    ("preprocessing", "resize"),
    [
        pytest.param(Preprocessing(), transforms.Resize((224, 224)), id="squash"),
        pytest.param(
            Preprocessing((90, 131)), transforms.Resize((90, 131)), id="squash not square"
        ),
        pytest.param(
            Preprocessing(resize="short-side", short_side=256), transforms.Resize(256), id="256 cut"
        ),
        pytest.param(
            Preprocessing(resize="short-side", short_side=235), transforms.Resize(235), id="235 cut"
        ),
        pytest.param(
            Preprocessing(resize="short-side", short_side=232, interpolation="bicubic"),
            transforms.Resize(232, transforms.InterpolationMode.BICUBIC),
            id="bicubic",
        ),
        pytest.param(
            Preprocessing((75, 75), "short-side", 75, mean=(0.5,) * 3, std=(0.3,) * 3),
            transforms.Resize(75),
            id="no margin",
        ),
    ],
)
def test_preprocessing_equals_torchvisions_transforms(
    preprocessing: Preprocessing, resize: Callable[..., Image.Image], size: tuple[int, int]
) -> None:
    picture = noise(*size)
    expected = transforms.Compose(
        [
            resize,
            transforms.CenterCrop(preprocessing.size),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )(picture)
    np.testing.assert_allclose(preprocessing.apply(picture), expected.numpy(), atol=1e-6)


@pytest.mark.parametrize("size", [(640, 427), (427, 640), (300, 300), (1001, 333)])
@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(mean=(0, 0, 0), std=(1, 1, 1)),
        Preprocessing((224, 224), "short-side", 256, mean=(0, 0, 0), std=(1, 1, 1)),
        Preprocessing((96, 120), "short-side", 124, mean=(0, 0, 0), std=(1, 1, 1)),
    ],
    ids=["squash", "cut", "cut not square"],
)
def test_seen_box_is_what_the_model_input_shows(
    preprocessing: Preprocessing, size: tuple[int, int]
) -> None:
    box = preprocessing.seen_box(*size)
    assert -0.5 <= box.left < box.right <= size[0] + 0.5
    assert -0.5 <= box.top < box.bottom <= size[1] + 0.5
    edges = [round(edge) for edge in (box.left, box.top, box.right, box.bottom)]
    left, top, right, bottom = edges
    picture = Image.new("RGB", size, "red")  # what is not seen
    picture.paste("white", (left, top, right, bottom))
    for x in (left, right - 20):
        for y in (top, bottom - 20):
            picture.paste("blue", (x, y, x + 20, y + 20))
    pixels = preprocessing.apply(picture)  # (3, H, W), 0..1
    height, width = preprocessing.size
    scale = width / (box.right - box.left), height / (box.bottom - box.top)
    markers = (pixels[0] < 0.5) & (pixels[1] < 0.5) & (pixels[2] > 0.5)
    for rows in (slice(None, height // 2), slice(height // 2, None)):
        for columns in (slice(None, width // 2), slice(width // 2, None)):
            quarter = markers[rows, columns]
            assert abs(quarter.any(0).sum() - 20 * scale[0]) <= 2
            assert abs(quarter.any(1).sum() - 20 * scale[1]) <= 2
    assert markers[1, 1]
    assert markers[1, -2]
    assert markers[-2, 1]
    assert markers[-2, -2]
    inner = pixels[:, 2:-2, 2:-2]
    assert not ((inner[0] > 0.6) & (inner[1] < 0.4)).any(), "what is not seen shows"


def test_seen_box_is_the_whole_image_when_it_is_squashed() -> None:
    box = Preprocessing().seen_box(640, 427)
    assert (box.left, box.top, box.right, box.bottom) == (0, 0, 640, 427)


@pytest.mark.parametrize(
    "preprocessing",
    [
        Preprocessing(),
        Preprocessing((299, 280), "short-side", 342, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.1, 0.3)),
    ],
)
def test_preprocessing_survives_json(preprocessing: Preprocessing) -> None:
    record = json.loads(json.dumps(preprocessing.to_dict()))
    assert Preprocessing.from_dict(record) == preprocessing


@st.composite
def croppings(draw: st.DrawFn) -> Preprocessing:
    """Preprocessing without resampling's blur: pixels stay in 0..1, one colour stays one colour."""
    side = draw(st.integers(8, 48))
    return Preprocessing(
        size=(side, side),
        resize=draw(st.sampled_from(["squash", "short-side"])),
        short_side=side + draw(st.integers(0, 24)),
        mean=(0, 0, 0),
        std=(1, 1, 1),
        whole_at_size=draw(st.booleans()),
    )


sides = st.integers(1, 120)


@given(croppings(), sides, sides)
def test_seen_box_lies_in_the_image_and_is_centred(
    preprocessing: Preprocessing, width: int, height: int
) -> None:
    box = preprocessing.seen_box(width, height)
    rounding = max(width, height) / min(preprocessing.size)  # one pixel of the scaled image
    assert -rounding <= box.left < box.right <= width + rounding
    assert -rounding <= box.top < box.bottom <= height + rounding
    assert abs((box.left + box.right) - width) <= rounding
    assert abs((box.top + box.bottom) - height) <= rounding


@given(croppings(), sides, sides)
def test_an_image_cut_to_its_seen_box_is_seen_whole(
    preprocessing: Preprocessing, width: int, height: int
) -> None:
    box = preprocessing.seen_box(width, height)
    side = preprocessing.size[0]
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    picture = Image.fromarray(ramp.round().astype(np.uint8))
    seen = preprocessing.apply(picture)[0]  # (H, W), 0..1
    centres = box.left + (np.arange(side) + 0.5) * (box.right - box.left) / side
    expected = np.clip((centres - 0.5) / max(1, width - 1), 0, 1)
    blur = 1.5 * max(1.0, (box.right - box.left) / side) / max(1, width - 1)
    assert np.abs(seen - expected).max() <= blur + 2 / 255


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 60), st.integers(1, 60))
def test_without_resizing_only_the_models_own_size_is_taken(
    width: int, height: int, model_width: int, model_height: int
) -> None:
    preprocessing = Preprocessing(
        (model_height, model_width), "none", mean=(0, 0, 0), std=(1, 1, 1)
    )
    picture = noise(width, height)
    if (width, height) == (model_width, model_height):
        pixels = preprocessing.apply(picture)
        np.testing.assert_allclose(pixels.transpose(1, 2, 0) * 255, picture, atol=1e-3)
    else:
        with pytest.raises(InputError, match=f"{width} × {height} pixels"):
            preprocessing.apply(picture)


@given(croppings(), st.sampled_from(["rgb", "bgr"]), st.sampled_from([1, 255]))
def test_every_preprocessing_survives_json_and_describes_itself(
    preprocessing: Preprocessing, order: str, scale: int
) -> None:
    changed = preprocessing.changed(
        {"channel_order": order, "scale": scale, "mean": (0, 0, 0), "std": (scale,) * 3}
    )
    assert Preprocessing.from_dict(json.loads(json.dumps(changed.to_dict()))) == changed
    english, chinese = (changed.described().worded(language) for language in ("en", "zh"))
    assert english == str(changed)
    assert f"0..{scale}" in english
    assert f"0..{scale}" in chinese
    assert "{" not in english + chinese
