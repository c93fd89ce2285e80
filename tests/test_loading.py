"""Loading: photographs for the model and the report, ahead of need and within limits."""

import hashlib
import io
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import InputError
from camreport.images.inputs import InputFile
from camreport.images.loading import (
    PHOTO_SIDE,
    TOO_LITTLE_MEMORY,
    FailedInput,
    LoadedImage,
    LoadingLimits,
    decode_ahead,
    load_image,
)
from camreport.images.pixels import MAX_PIXELS
from camreport.images.preprocessing import Preprocessing
from camreport.images.shared_limit import SharedLimit


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """A picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    """Return an image as a file's bytes."""
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


PNG = encoded(noise(56, 40), "PNG")


def test_load_image_prepares_the_photo_and_the_pixels_that_the_model_sees() -> None:
    data = encoded(noise(900, 300), "PNG")
    loaded = load_image(data, Preprocessing())
    assert loaded.pixels.dtype == np.uint8
    assert loaded.pixels.shape == (224, 224, 3)
    assert (loaded.width, loaded.height) == (900, 300)
    assert loaded.sha256 == hashlib.sha256(data).hexdigest()
    with Image.open(io.BytesIO(loaded.photo)) as photo:
        assert photo.format == "JPEG"
        assert photo.size == (PHOTO_SIDE, round(PHOTO_SIDE / 3))


def test_load_image_turns_photo_and_size_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = load_image(encoded(noise(60, 20), "JPEG", exif=exif), Preprocessing())
    assert (loaded.width, loaded.height) == (20, 60)
    with Image.open(io.BytesIO(loaded.photo)) as photo:
        assert photo.size == (20, 60)


def test_load_image_needs_no_memory_beyond_the_limit_when_an_image_is_very_narrow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    resize = Image.Image.resize

    def checked(
        image: Image.Image, size: tuple[int, int], *rest: object, **options: object
    ) -> Image.Image:
        assert size[0] * size[1] <= MAX_PIXELS
        return resize(image, size, *rest, **options)

    monkeypatch.setattr(Image.Image, "resize", checked)
    data = encoded(Image.new("L", (1, 20000)), "PNG")
    with suppress(InputError):
        load_image(data, Preprocessing(resize="short-side", short_side=256))


def test_a_shared_limit_is_never_exceeded_except_by_one_alone() -> None:
    shared, held, worst, lock = SharedLimit(10), 0, [0], threading.Lock()

    def work(amount: int) -> None:
        nonlocal held
        with shared.hold(amount):
            with lock:
                held += amount
                worst.append(held if held != amount else min(held, 10))
            with lock:
                held -= amount

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, [3, 4, 25, 1, 10, 7, 2, 11] * 50))
    assert max(worst) <= 10


def inputs_of(*contents: bytes, folder: Path) -> list[InputFile]:
    """Write files and return them as inputs."""
    for index, content in enumerate(contents):
        (folder / f"{index}.png").write_bytes(content)
    return [InputFile(str(folder / f"{i}.png"), f"{i}.png") for i in range(len(contents))]


def test_threads_decode_no_more_pixels_together_than_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    side, limit = 60, 3 * 60 * 60
    lock, in_memory, seen = threading.Lock(), [0], []

    class Counting(Preprocessing):
        def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
            with lock:
                in_memory[0] += image.width * image.height
                seen.append(in_memory[0])
            try:
                return super().pixels(image)
            finally:
                with lock:
                    in_memory[0] -= image.width * image.height

    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    files = inputs_of(*[encoded(noise(side, side), "PNG")] * 24, folder=tmp_path)
    limits = LoadingLimits(pixels=limit)
    loaded = list(decode_ahead(files, range(24), Counting((8, 8)), limits))
    assert all(isinstance(image, LoadedImage) for _, image in loaded)
    assert 0 < max(seen) <= limit


class Asked(list[InputFile]):
    """Inputs that remember how many of them were asked for."""

    count = 0

    def __getitem__(self, index: int) -> InputFile:  # type: ignore[override]
        self.count += 1
        return super().__getitem__(index)


@pytest.mark.parametrize(
    ("limits", "ahead"),
    [
        (LoadingLimits(bytes_ahead=5 * 3 * 100 * 100), 5),
        (LoadingLimits(bytes_ahead=1), 1),
    ],
)
def test_inputs_are_loaded_ahead_as_far_as_the_limits_allow(
    tmp_path: Path, limits: LoadingLimits, ahead: int
) -> None:
    files = Asked(inputs_of(PNG, folder=tmp_path) * 30)
    loaded = decode_ahead(files, range(30), Preprocessing((100, 100)), limits)
    for done, (index, image) in enumerate(loaded, start=1):
        assert index == done - 1
        assert isinstance(image, LoadedImage)
        assert files.count <= done + ahead
    assert files.count == 30


def test_one_bad_image_never_costs_the_others(tmp_path: Path) -> None:
    files = inputs_of(PNG, b"", PNG[:500], PNG, folder=tmp_path)
    files.append(InputFile(str(tmp_path), "folder"))
    loaded = dict(decode_ahead(files, [4, 2, 0, 1, 3], Preprocessing((8, 8))))
    assert list(loaded) == [4, 2, 0, 1, 3]
    assert {i for i, one in loaded.items() if isinstance(one, LoadedImage)} == {0, 3}
    assert str(loaded[4].reason) == "not a regular file but a folder"
    assert loaded[4].reason.worded("zh") == "不是普通文件，而是文件夹"


def test_too_little_memory_is_no_damage_and_may_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = inputs_of(PNG, folder=tmp_path)

    def full(*given: object) -> None:
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", full)
    [(_, failure)] = decode_ahead(files, [0], Preprocessing())
    assert isinstance(failure, FailedInput)
    assert (failure.reason, failure.transient) == (TOO_LITTLE_MEMORY, True)


def test_a_failure_says_whether_it_may_pass(tmp_path: Path) -> None:
    (tmp_path / "half.png").write_bytes(PNG[:500])
    files = [InputFile(str(tmp_path / name), name) for name in ("half.png", "lost.png")]
    half, lost = (failure for _, failure in decode_ahead(files, [0, 1], Preprocessing()))
    assert isinstance(half, FailedInput)
    assert isinstance(lost, FailedInput)
    assert not half.transient
    assert lost.transient
    assert str(lost.reason) == "the file cannot be opened (No such file or directory)"
    assert lost.reason.worded("zh") == "无法打开文件（没有这个文件或目录）"
