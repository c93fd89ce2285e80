"""How a photograph becomes a model input, and which part of the photograph the model sees.

Images are RGB, uint8 0..255. Nothing here imports torch.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import InputError, ModelError, suggestion
from camreport.images.pixels import MAX_PIXELS
from camreport.messages import Message, message

MAX_MEAN = 5
"""A larger mean is rejected for pixels in 0..1: it looks like a mean of pixels in 0..255."""


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels of the oriented image; right and bottom are exclusive."""

    left: float
    top: float
    right: float
    bottom: float


class PreprocessingChanges(TypedDict, total=False):
    """Options that change a model's own preprocessing; None keeps the model's value.

    Attributes:
        image_size: size of the model input in pixels: one number, or height and width.
        resize: as for ``Preprocessing``.
        mean: one number per channel of the model input, in units of ``scale``.
        std: one number per channel of the model input, in units of ``scale``.
        channel_order: ``rgb`` or ``bgr``; the model's own mean and std are reordered too.
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
        resize: ``squash`` scales the whole image to ``size`` and ignores the aspect ratio;
            ``short-side`` scales the shorter side to ``short_side`` and crops the centre;
            ``none`` accepts only images that already have ``size``.
        short_side: pixels of the shorter side before the crop; with ``squash`` of both sides, or
            None to crop nothing.
        interpolation: resampling filter, antialiased.
        mean: one number per channel of the model input, in units of ``scale``.
        std: one number per channel of the model input, in units of ``scale``.
        channel_order: order of the model input's channels.
        scale: the value of white, 1 or 255, before ``mean`` is subtracted.
        whole_at_size: use an image that already has ``size`` unscaled and uncropped, whatever
            the other images are.
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
        """Return the preprocessing that ``to_dict`` described; lists stand for tuples."""
        return cls(
            **{k: tuple(v) if isinstance(v, list) else v for k, v in record.items()}  # type: ignore[arg-type]
        )

    def to_dict(self) -> dict[str, object]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    def changed(self, changes: PreprocessingChanges) -> Self:
        """Return this preprocessing with a user's changes.

        Raises:
            ModelError: an impossible value, or a new ``scale`` without a mean and std in its unit.
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
        """Refuse a mean in the unit of the other scale.

        Raises:
            ModelError: the mean does not fit the scale.
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

    def described(self) -> Message:
        """Return what is done to a photograph, in one line."""
        resizing = self._resizing()
        if self.whole_at_size:
            height, width = self.size
            resizing = message(
                "images.whole_at_size", resizing=resizing, width=width, height=height
            )
        mean, std = (", ".join(f"{v:g}" for v in values) for values in (self.mean, self.std))
        return message(
            "images.preprocessing",
            order=self.channel_order.upper(),
            resizing=resizing,
            scale=self.scale,
            mean=mean,
            std=std,
        )

    def __str__(self) -> str:
        """Return what is done to a photograph, in one line of English."""
        return str(self.described())

    def _resizing(self) -> Message:
        height, width = self.size
        if self.resize == "none":
            return message("images.not_resized", width=width, height=height)
        used = message(f"images.{self.interpolation}")
        side = self.short_side
        if side is None or (self.resize == "squash" and side == width):
            return message("images.whole_resized", width=width, height=height, filter=used)
        code = "whole_resized_and_cut" if self.resize == "squash" else "shorter_side_resized"
        return message(f"images.{code}", side=side, width=width, height=height, filter=used)

    @property
    def cuts(self) -> bool:
        """Whether it crops the edges of some images."""
        return self.resize != "none" and self.short_side is not None

    def seen_box(self, width: int, height: int) -> Box:
        """Return the part of a ``width`` × ``height`` image that the model sees, in pixels.

        It reaches beyond the image where the scaled image is smaller than the crop.
        """
        scaled, offset = self._scaled_size(width, height), self._offset(width, height)
        x, y = width / scaled[0], height / scaled[1]
        return Box(
            left=offset[0] * x,
            top=offset[1] * y,
            right=(offset[0] + self.size[1]) * x,
            bottom=(offset[1] + self.size[0]) * y,
        )

    def seen_part(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of ``seen_box`` as fractions of the image."""
        box = self.seen_box(width, height)
        return box.left / width, box.top / height, box.right / width, box.bottom / height

    def apply(self, image: Image.Image) -> NDArray[np.float32]:
        """Return the model input of an RGB image, float32 ``(3, H, W)``, standardised.

        Raises:
            InputError: as for ``pixels``.
        """
        return self.standardised(self.pixels(image))

    def standardised(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return model inputs ``(..., 3, H, W)`` of pixels ``(..., H, W, 3)``, RGB 0..255.

        The engine does the same on the model's device: see ``engine/inputs.py``.
        """
        values = pixels.astype(np.float32)
        if self.scale == 1:
            values = values / np.float32(255)
        if self.channel_order == "bgr":
            values = values[..., ::-1]
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        return np.ascontiguousarray(np.moveaxis((values - mean) / std, -1, -3))

    def pixels(self, image: Image.Image) -> NDArray[np.uint8]:
        """Return what the model sees of an RGB image, ``(H, W, 3)``, RGB 0..255.

        Raises:
            InputError: the image is so narrow that its scaled version needs too much memory, or
                has another size than the only one accepted without resizing; the error carries a
                ``Message``.
        """
        if self.resize == "none" and image.size != self.size[::-1]:
            raise InputError(
                message(
                    "images.other_size",
                    width=image.width,
                    height=image.height,
                    model_width=self.size[1],
                    model_height=self.size[0],
                )
            )
        width, height = self._scaled_size(*image.size)
        if width * height > MAX_PIXELS:
            raise InputError(
                message(
                    "images.too_narrow",
                    width=image.width,
                    height=image.height,
                    scaled_width=width,
                    scaled_height=height,
                )
            )
        resampling = Image.Resampling[self.interpolation.upper()]
        left, top = self._offset(*image.size)
        scaled = image.resize((width, height), resampling)
        seen = scaled.crop((left, top, left + self.size[1], top + self.size[0]))
        return np.asarray(seen)

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
    """Return a mean or a standard deviation, one finite number per channel.

    Raises:
        ModelError: it is neither.
    """
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
