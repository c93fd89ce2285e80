"""Image files: find them, decode them, prepare them for a model, and the way back.

Pixels are RGB everywhere, uint8 0..255 as arrays ``(H, W, 3)``. Files are read as bytes, so a
name with any characters works on every system. Nothing here imports torch.
"""

import glob
import hashlib
import io
import os
import threading
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, Self, TypedDict

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError

from camreport.errors import InputError, ModelError

READABLE_EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .gif .tif .tiff".split()
)
"""Extensions of the formats that are decoded."""

UNREADABLE_EXTENSIONS = frozenset(".heic .heif .avif .jxl .jp2 .svg .psd".split())
"""Extensions of images that are listed as failed by name rather than passed over in silence."""

MAX_PIXELS = 89_478_485
"""Largest image that is decoded, in pixels (Pillow's own threshold: 256 MiB of RGB)."""

PHOTO_SIDE = 448
"""Longer side of the photographs shown in a report, in pixels."""

LARGEST_MEAN = 5
"""Largest mean that is believed of pixels up to 1."""

_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF")

_header_lock = threading.Lock()


@dataclass(frozen=True)
class InputFile:
    """One image file: where it lies, and the unique relative name that reports show."""

    path: Path
    name: str


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
        self._check_units(new)
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
        return replace(self, **new)  # type: ignore[arg-type]

    def _check_units(self, new: Mapping[str, object]) -> None:
        """Refuse a mean that is in the unit of the other scale.

        Raises:
            ModelError: it is.
        """
        mean = new.get("mean")
        if not isinstance(mean, tuple):
            return
        if new.get("scale", self.scale) == 1 and max(map(abs, mean)) > LARGEST_MEAN:
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
    """

    model_input: NDArray[np.float32]
    photo: bytes
    width: int
    height: int
    sha256: str


def find_images(inputs: Sequence[str | Path], exclude: Path | None = None) -> list[InputFile]:
    """List the image files that files, folders and glob patterns lead to.

    Folders are read recursively in path order; hidden entries and files without an image
    extension are passed over. A file that is named itself is always an input.

    Args:
        inputs: paths or patterns.
        exclude: a folder to leave out (the report's own results), wherever it lies.

    Raises:
        InputError: an input does not exist, or nothing at all was found.
    """
    found: dict[Path, tuple[Path, str]] = {}
    for given in inputs:
        for root, path in _expand(str(given)):
            resolved = path.resolve()
            if exclude is None or not resolved.is_relative_to(exclude.resolve()):
                found.setdefault(resolved, (root, path.relative_to(root).as_posix()))
    if not found:
        raise InputError(
            f"input: expected image files, found none in {_listed(inputs)}. "
            f"These are read: {' '.join(sorted(READABLE_EXTENSIONS))}"
        )
    names = _unique_names(list(found.values()))
    return [InputFile(path, name) for path, name in zip(found, names, strict=True)]


def load_image(data: bytes, preprocessing: Preprocessing) -> LoadedImage:
    """Decode an image file's bytes and prepare them for the model and the report.

    Raises:
        InputError: the bytes are no image that can be read; the message says why.
    """
    image = decode(data)
    photo = image.copy()
    photo.thumbnail((PHOTO_SIDE, PHOTO_SIDE), Image.Resampling.LANCZOS)
    return LoadedImage(
        model_input=preprocessing.apply(image),
        photo=jpeg_bytes(photo),
        width=image.width,
        height=image.height,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def decode(data: bytes) -> Image.Image:
    """Decode an image file: first frame, upright, RGB, transparency on white.

    Args:
        data: the bytes of a JPEG, PNG, WebP, BMP, GIF or TIFF file.

    Raises:
        InputError: empty, truncated, too large, or not a format that is read.
    """
    if not data:
        raise InputError("the file is empty (0 bytes)")
    try:
        with _header_lock, warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            image = Image.open(io.BytesIO(data), formats=_FORMATS)
        _check_size(image.width, image.height)
        return _to_rgb(ImageOps.exif_transpose(image))
    except Image.DecompressionBombError as error:
        raise InputError(_too_large("its header claims too many pixels")) from error
    except UnidentifiedImageError as error:
        if data[:4] not in (b"II*\0", b"MM\0*"):
            raise InputError(f"not an image that can be read: {_format_name(data)}") from error
    except InputError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever the damage leads to
        raise InputError(f"damaged or truncated: {str(error).strip()}") from error
    return _decode_deep_tiff(data)


def jpeg_bytes(image: Image.Image, quality: int = 85) -> bytes:
    """Return an RGB image as JPEG bytes."""
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=quality)
    return buffer.getvalue()


def _expand(given: str) -> Iterator[tuple[Path, Path]]:
    """Yield ``(root, file)`` pairs; a file's name in the report is relative to its root."""
    path = Path(given)
    if os.path.isdir(given):
        yield from ((path, file) for file in _walk(path))
    elif os.path.isfile(given):
        yield path.parent, path
    elif any(character in given for character in "*?["):
        for match in sorted(glob.glob(given, recursive=True)):
            if os.path.isdir(match):
                yield from ((Path(match), file) for file in _walk(Path(match)))
            elif _is_image(match):
                yield Path(match).parent, Path(match)
    else:
        raise InputError(f"input: expected a file, folder or pattern, found nothing at {given!r}.")


def _walk(folder: Path) -> list[Path]:
    files: list[Path] = []
    for where, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        files += [
            Path(where) / name for name in names if not name.startswith(".") and _is_image(name)
        ]
    return sorted(files)


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in READABLE_EXTENSIONS | UNREADABLE_EXTENSIONS


def _unique_names(found: Sequence[tuple[Path, str]]) -> list[str]:
    """Return printable names, prefixed by their folder and then numbered where they clash."""
    names = [printable(name) for _, name in found]
    clashes = Counter(names)
    names = [
        f"{printable(root.resolve().name)}/{name}" if clashes[name] > 1 else name
        for (root, _), name in zip(found, names, strict=True)
    ]
    taken: set[str] = set()
    for position, name in enumerate(names):
        unique, number = name, 2
        while unique in taken:
            unique, number = f"{name} ({number})", number + 1
        taken.add(unique)
        names[position] = unique
    return names


def printable(name: str) -> str:
    """Replace bytes of a file name that are no UTF-8, so that reports and terminals take it."""
    try:
        return name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half a character, which Windows allows
        return name.encode("utf-8", "replace").decode("utf-8")


def _listed(inputs: Iterable[str | Path]) -> str:
    return ", ".join(repr(str(given)) for given in inputs)


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 or 32 bits
        return _from_deep(np.asarray(image))
    if image.mode == "F":
        raise InputError("floating-point pixels have no fixed range; save it with 8 or 16 bits")
    if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("RGB")


def _from_deep(pixels: NDArray[np.generic]) -> Image.Image:
    """Return an RGB image of 16-bit pixels ``(H, W)`` or ``(H, W, 3 or 4)``, RGB(A) order."""
    values = np.asarray(pixels, dtype=np.float64)
    if values.min() < 0 or values.max() > 65535:
        raise InputError("pixels outside 0..65535 have no fixed range; save it with 8 or 16 bits")
    eight = np.floor(values / 257 + 0.5).astype(np.uint8)
    return _to_rgb(Image.fromarray(eight))


def _decode_deep_tiff(data: bytes) -> Image.Image:
    """Decode what Pillow cannot (TIFF with 16 bits in several channels) through OpenCV."""
    import cv2

    try:
        directory = TiffImagePlugin.ImageFileDirectory_v2(data[:8])
        file = io.BytesIO(data)
        file.seek(directory.next)
        directory.load(file)
        _check_size(directory[TiffImagePlugin.IMAGEWIDTH], directory[TiffImagePlugin.IMAGELENGTH])
        if directory.get(TiffImagePlugin.SAMPLESPERPIXEL) == 2:  # OpenCV drops its alpha
            raise InputError("a TIFF of 16-bit grey with transparency is not read; save it as PNG")
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except InputError:
        raise
    except Exception as error:  # as above: whatever the damage leads to
        raise InputError(f"damaged or truncated: {str(error).strip()}") from error
    if pixels is None or pixels.dtype not in (np.uint8, np.uint16):
        raise InputError("not an image that can be read: a TIFF of an unusual kind")
    if pixels.ndim == 3:
        code = cv2.COLOR_BGRA2RGBA if pixels.shape[2] == 4 else cv2.COLOR_BGR2RGB
        pixels = cv2.cvtColor(pixels, code)
    if pixels.dtype == np.uint8:
        return _to_rgb(Image.fromarray(pixels))
    return _from_deep(pixels)


def _check_size(width: int, height: int) -> None:
    if width * height > MAX_PIXELS:
        raise InputError(_too_large(f"{width} × {height} pixels"))


def _too_large(what: str) -> str:
    limit = MAX_PIXELS // 1_000_000
    return f"too large: {what}; at most {limit} megapixels are read. Scale it down first"


def _format_name(data: bytes) -> str:
    """Name what the first bytes look like."""
    head = data[:512].lstrip().lower()
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        if brand in (b"avif", b"avis"):
            return "AVIF. Convert it to JPEG or PNG"
        if brand in (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1"):
            return "HEIC. Convert it to JPEG or PNG"
        return "a video or another ISO media file"
    if data[:2] == b"\xff\x0a" or data[4:8] == b"JXL ":
        return "JPEG XL. Convert it to JPEG or PNG"
    if data[:4] == b"%PDF":
        return "PDF. Export the picture as JPEG or PNG"
    if head.startswith((b"<!doctype html", b"<html")):
        return "an HTML page, probably an error page saved by a download"
    if b"<svg" in head:
        return "SVG. Export it as PNG"
    return "its first bytes belong to no known image format"
