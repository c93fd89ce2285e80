"""Photographs prepared for a model, and the way back from its input to their pixels.

Pixels are RGB everywhere, uint8 0..255 as arrays ``(H, W, 3)``. Nothing here imports torch.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import InputError, ModelError, suggestion
from camreport.images.pixels import MAX_PIXELS, decode_opened, jpeg_bytes, open_image
from camreport.images.shared_limit import SharedLimit

PHOTO_SIDE = 448
"""Longer side of the photographs shown in a report, in pixels."""

MAX_MEAN = 5
"""Largest mean for pixels up to 1: a larger one looks like that of pixels up to 255."""

_in_memory = SharedLimit(MAX_PIXELS)  # pixels of photographs that all threads decode at a time


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the oriented image; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float


class PreprocessingChanges(TypedDict, total=False):
    """What a user may change in a model's own preprocessing; None leaves it as it is.

    Attributes:
        image_size: of the model input, in pixels: one number, or height and width.
        resize: as for ``Preprocessing``.
        mean: one number per channel of the model input, in units of ``scale``.
        std: likewise.
        channel_order: ``rgb`` or ``bgr``; the model's own mean and std go with their colours.
        scale: the value of white, 1 or 255.
    """

    image_size: int | Sequence[int] | None
    resize: str | None
    mean: Sequence[float] | None
    std: Sequence[float] | None
    channel_order: str | None
    scale: int | None


@dataclass(frozen=True)
class Preprocessing:
    """How a photograph becomes a model input, and what part of it the model sees.

    Attributes:
        size: height and width of the model input, in pixels.
        resize: ``squash`` scales the whole image to ``size`` (aspect ratio not kept);
            ``short-side`` scales the shorter side to ``short_side``, then cuts out the centre;
            ``none`` takes images that have that size already, and refuses others.
        short_side: pixels of the shorter side before the cut; for ``squash`` of both sides, or
            None to cut nothing out.
        interpolation: resampling filter, antialiased.
        mean: per channel of the model input, in units of ``scale``.
        std: per channel of the model input, in units of ``scale``.
        channel_order: of the model input.
        scale: the value of white, 1 or 255, before ``mean`` is subtracted.
        whole_at_size: an image that already has ``size`` is taken as it is, so that nothing of
            it is cut off; every image is judged by itself.
    """

    size: tuple[int, int] = (224, 224)
    resize: Literal["squash", "short-side", "none"] = "squash"
    short_side: int | None = None
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    channel_order: Literal["rgb", "bgr"] = "rgb"
    scale: Literal[1, 255] = 1
    whole_at_size: bool = False

    @classmethod
    def from_dict(cls, record: dict[str, object]) -> Self:
        """Rebuild from what ``to_dict`` gave, lists and all."""
        return cls(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}  # type: ignore[arg-type]
        )

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    def changed(self, changes: PreprocessingChanges) -> Self:
        """Return this preprocessing with some of its steps changed.

        Raises:
            ModelError: a value that makes no sense, or none where the unit of mean and std
                changes with ``scale``.
        """
        for name in changes.keys() - PreprocessingChanges.__annotations__.keys():
            known = PreprocessingChanges.__annotations__
            raise ModelError(
                f"{name}: expected one of the options {', '.join(known)}, got {name!r}."
                + suggestion(name, known)
            )
        given = {key: value for key, value in changes.items() if value is not None}
        new: dict[str, object] = {
            name: given[name]
            for name, allowed in _CHOICES.items()
            if name in given and _is_one_of(name, given[name], allowed)
        }
        for name in ("mean", "std"):
            if name in given:
                new[name] = _three_numbers(name, given[name])
        if new.get("scale", self.scale) != self.scale and not {"mean", "std"} <= new.keys():
            raise ModelError(
                f"scale: pixels up to {new['scale']} change the unit of mean and std: give both. "
                "--mean 0,0,0 --std 1,1,1 leaves the pixels as they are."
            )
        if new.get("channel_order", self.channel_order) != self.channel_order:
            new.setdefault("mean", self.mean[::-1])
            new.setdefault("std", self.std[::-1])
        resize = new.get("resize", self.resize)
        size = _height_and_width(given["image_size"]) if "image_size" in given else self.size
        new["size"] = size
        if "resize" in given:
            new["whole_at_size"] = False
        if resize != self.resize or size != self.size:
            new["short_side"] = None
        if resize == "short-side":
            if size[0] != size[1]:
                raise ModelError(
                    f"image_size: the rule short-side takes one number, got {size[0]} × {size[1]}. "
                    "Choose the rule squash, or one number."
                )
            new["short_side"] = round(size[0] * (self.short_side or self.size[0]) / self.size[0])
        self._check_units(new)
        return replace(self, **new)  # type: ignore[arg-type]

    def _check_units(self, new: Mapping[str, object]) -> None:
        """Refuse a mean that is in the unit of the other scale.

        Raises:
            ModelError: it is.
        """
        mean = new.get("mean")
        if not isinstance(mean, tuple):
            return
        if new.get("scale", self.scale) == 1 and max(map(abs, mean)) > MAX_MEAN:
            raise ModelError(
                f"mean: expected numbers for pixels up to 1, got {max(mean, key=abs):g}. For "
                "pixels up to 255 say --scale 255."
            )
        if new.get("scale", self.scale) == 255 and 0 < max(map(abs, mean)) <= 1:
            raise ModelError(
                f"mean: expected numbers for pixels up to 255, got {max(mean, key=abs):g}. For "
                "pixels up to 1 say --scale 1."
            )

    def __str__(self) -> str:
        """Say in one line what is done to a photograph."""
        height, width = self.size
        scaled = f"{width} × {height}"
        if self.short_side is not None and self.short_side != width:
            scaled = f"{self.short_side} × {self.short_side}, centre {scaled} cut out"
        how = {
            "squash": f"whole image resized to {scaled} ({self.interpolation})",
            "short-side": f"shorter side resized to {self.short_side}, "
            f"centre {width} × {height} cut out ({self.interpolation})",
            "none": f"{width} × {height} as it is",
        }[self.resize]
        if self.whole_at_size:
            how += f", images of {width} × {height} taken whole"
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        order = self.channel_order.upper()
        return f"{order}, {how}, 0..{self.scale}, mean ({mean}), std ({std})"

    @property
    def cuts(self) -> bool:
        """Whether it cuts off the edges of some images."""
        return self.resize != "none" and self.short_side is not None

    def seen_box(self, width: int, height: int) -> Box:
        """Return the part of a ``width`` × ``height`` image that the model sees, in pixels."""
        scaled, offset = self._scaled_size(width, height), self._offset(width, height)
        x, y = width / scaled[0], height / scaled[1]
        return Box(
            left=offset[0] * x,
            top=offset[1] * y,
            right=(offset[0] + self.size[1]) * x,
            bottom=(offset[1] + self.size[0]) * y,
        )

    def apply(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the model input of an RGB image, float32 ``(3, H, W)``, standardised.

        Raises:
            InputError: so long and narrow that scaling its shorter side takes too much memory,
                or not of the one size that is taken without resizing.
        """
        if self.resize == "none" and image.size != self.size[::-1]:
            raise InputError(
                f"{image.width} × {image.height} pixels, but without resizing all images have "
                f"{self.size[1]} × {self.size[0]}. Explain it by itself, or choose a resize rule"
            )
        width, height = self._scaled_size(*image.size)
        if width * height > MAX_PIXELS:
            raise InputError(
                f"too long and narrow: {image.width} × {image.height} pixels would become "
                f"{width} × {height}. Cut it to a squarer shape first"
            )
        resampling = Image.Resampling[self.interpolation.upper()]
        left, top = self._offset(*image.size)
        scaled = image.resize((width, height), resampling)
        seen = scaled.crop((left, top, left + self.size[1], top + self.size[0]))
        pixels = np.asarray(seen, dtype=np.float32)
        if self.scale == 1:
            pixels = pixels / np.float32(255)
        if self.channel_order == "bgr":
            pixels = pixels[..., ::-1]
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        standardised = (pixels - mean) / std
        return np.ascontiguousarray(standardised.transpose(2, 0, 1))

    def _scaled_size(self, width: int, height: int) -> tuple[int, int]:
        fits = self.whole_at_size and (height, width) == self.size
        if self.resize == "none" or self.short_side is None or fits:
            return self.size[1], self.size[0]
        if self.resize == "squash":
            return self.short_side, self.short_side
        if width <= height:
            return self.short_side, int(self.short_side * height / width)
        return int(self.short_side * width / height), self.short_side

    def _offset(self, width: int, height: int) -> tuple[int, int]:
        scaled_width, scaled_height = self._scaled_size(width, height)
        return round((scaled_width - self.size[1]) / 2), round((scaled_height - self.size[0]) / 2)


_CHOICES: dict[str, tuple[object, ...]] = {
    "resize": ("squash", "short-side", "none"),
    "channel_order": ("rgb", "bgr"),
    "scale": (1, 255),
}


def _is_one_of(name: str, value: object, allowed: tuple[object, ...]) -> bool:
    if value not in allowed:
        raise ModelError(f"{name}: expected {' or '.join(map(str, allowed))}, got {value!r}.")
    return True


def _three_numbers(name: str, values: object) -> tuple[float, ...]:
    """Return a mean or a standard deviation, one finite number per channel."""
    plain = values.tolist() if isinstance(values, np.ndarray) else values
    listed = tuple(plain) if isinstance(plain, Sequence) else ()
    numeric = all(isinstance(v, int | float) and np.isfinite(v) for v in listed)
    if len(listed) != 3 or not numeric or (name == "std" and min(listed) <= 0):
        above = " above 0" if name == "std" else ""
        raise ModelError(f"{name}: expected three numbers{above}, got {values!r}.")
    return tuple(map(float, listed))


def _height_and_width(given: object) -> tuple[int, int]:
    sides = (given, given) if isinstance(given, int) else given
    if isinstance(sides, Sequence) and len(sides) == 2:
        height, width = sides
        if isinstance(height, int) and isinstance(width, int) and min(sides) > 0:
            return height, width
    raise ModelError(
        f"image_size: expected a number of pixels from 1, or height and width, got {given!r}."
    )


@dataclass(frozen=True)
class LoadedImage:
    """A decoded photograph, ready for the model and for the report.

    Attributes:
        model_input: float32 ``(3, H, W)``, preprocessed.
        photo: the oriented photograph as JPEG bytes, longer side at most ``PHOTO_SIDE``.
        width: of the oriented photograph, in pixels.
        height: of the oriented photograph, in pixels.
        sha256: of the file, hexadecimal.
        note: what was done to the pixels that a reader should know; empty if nothing.
    """

    model_input: NDArray[np.float32]
    photo: bytes
    width: int
    height: int
    sha256: str
    note: str = ""


def load_image(data: bytes, preprocessing: Preprocessing) -> LoadedImage:
    """Decode an image file's bytes and prepare them for the model and the report.

    Raises:
        InputError: the bytes are no image that can be read; the message says why.
        MemoryError: there is too little memory for it at the moment.
    """
    opened = open_image(data)
    with _in_memory.hold(opened.pixels):
        decoded = decode_opened(opened)
        image = decoded.image
        return LoadedImage(
            model_input=preprocessing.apply(image),
            photo=jpeg_bytes(_shrunk(image, PHOTO_SIDE)),
            width=image.width,
            height=image.height,
            sha256=hashlib.sha256(data).hexdigest(),
            note=decoded.note,
        )


def _shrunk(image: Image.Image, side: int) -> Image.Image:
    """Return an image whose longer side has at most so many pixels."""
    scale = side / max(image.size)
    if scale >= 1:
        return image
    width, height = (max(1, round(scale * length)) for length in image.size)
    return image.resize((width, height), Image.Resampling.LANCZOS, reducing_gap=2.0)
