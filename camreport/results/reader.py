"""The results folder: what a run leaves for researchers, and all that the gallery reads.

    OUT/results/.camreport          marker: the folder is ours; what the run was asked to do
    OUT/results/shard-00000.npz     raw maps, logits and targets of a range of the images
    OUT/results/shard-00000.json    the records of its inputs; written behind it: it is finished
    OUT/results/photos/0.jpg        the photographs at display size
    OUT/results/manifest.json       written last: its presence says that the run is complete

A folder may come from someone else: what is read here is checked, and leads nowhere else.
Nothing here imports torch.
"""

import json
import os
import re
import warnings
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from camreport.errors import InputError, ResultsError
from camreport.files import LOCK, MARKER, RESULTS, is_file, is_folder, is_marked, read
from camreport.results.checks import check_manifest
from camreport.results.shards import Arrays, check_arrays, read_shard
from camreport.settings import NONE, SIGMOID, SOFTMAX

SCHEMA = 2
"""Version of the folder's layout."""

NEXT = ".camreport-next"
"""The folder in which a run writes until it is complete, where earlier results stand."""

REPORT = "index.html"
"""File name of the report, beside ``results``."""

DATA = "data"
"""The folder of a report's data, beside it, where it is too large for one file."""

MANIFEST = "manifest.json"
"""Name of the file that describes a run."""

PHOTOS = "photos"
"""The folder of the photographs."""

MAX_PHOTO_BYTES, MAX_PHOTO_PIXELS = 64 * 1024**2, 4096 * 4096
"""Most bytes and pixels of a photograph at display size."""

MAX_JSON_BYTES = 2 * 1024**3
"""Most bytes of a manifest."""

Record = dict[str, Any]
"""A JSON object."""


@dataclass
class Results:
    """A complete results folder, read shard by shard; the last shard stays in memory.

    Attributes:
        path: the ``results`` folder.
        manifest: as in ``manifest.json``, checked.
    """

    path: Path
    manifest: Record
    _shard: tuple[str, Arrays] = field(default=("", {}), repr=False)

    @property
    def images(self) -> list[Record]:
        """The records of all images, failed ones included."""
        return list(self.manifest["images"])

    def photo(self, index: int) -> bytes:
        """Return an image's photograph at display size, as JPEG bytes.

        Raises:
            ResultsError: it is missing.
        """
        return read_photo(self.path, index)

    def picture(self, index: int) -> Image.Image:
        """Return an image's photograph at display size, RGB.

        Raises:
            ResultsError: it is missing or damaged, or of another shape than its image.
        """
        picture = decode_photo(self.photo(index), f"{PHOTOS}/{index}.jpg")
        record = self.manifest["images"][index]
        width, height = record.get("width") or 1, record.get("height") or 1
        off = abs(picture.height * width - picture.width * height)  # of rounding to whole pixels
        if off > 1.5 * max(width, height):
            raise ResultsError(
                f"results: {PHOTOS}/{index}.jpg is {picture.width} × {picture.height}, which does "
                f"not fit an image of {width} × {height}. Run 'camreport run' again."
            )
        return picture

    def arrays(self, index: int) -> Arrays:
        """Return one image's arrays: maps ``(K, h, w)``, logits ``(num_classes,)``, targets.

        Raises:
            ResultsError: the image failed, or its shard is missing or damaged.
        """
        record = self.manifest["images"][index]
        if record["status"] != "ok":
            raise ResultsError(f"image: {record['file']!r} has no maps ({record['reason']}).")
        name = record["shard"]
        if self._shard[0] != name:
            arrays = read_shard(self.path / name, self.path.parent)
            check_arrays(arrays, self.manifest, name)
            self._shard = name, arrays
        arrays, row = self._shard[1], record["row"]
        if row >= len(arrays["image"]):
            raise ResultsError(
                f"results: {name} has no maps of {record['file']!r}. Run 'camreport run' again."
            )
        return {key: array[row] for key, array in arrays.items()}


def check_output(out: Path, overwrite: bool = False) -> None:
    """Refuse an output folder that holds what is not ours.

    Raises:
        InputError: it is a file or lies in one, it cannot be written to, or it is a folder with
            something in it that no run has made.
    """
    existing = next(path for path in (out, *out.absolute().parents) if os.path.exists(path))
    if not existing.is_dir():
        raise InputError(f"output: expected a folder, got the file {str(existing)!r}.")
    try:
        out.exists()  # not for the answer: names that no file system takes raise here
    except OSError as error:
        raise InputError(
            f"output: {str(out)!r} is not a valid file name here ({error.strerror})."
        ) from error
    if not os.access(existing, os.W_OK):
        raise InputError(f"output: {str(existing)!r} cannot be written to. Choose another folder.")
    for path, is_kind, kind in (
        (out / RESULTS, is_folder, "a folder"),
        (out / REPORT, is_file, "a file"),
    ):
        if os.path.lexists(path) and not is_kind(path):
            raise InputError(f"output: {str(path)!r} must be {kind} or absent. Move it away.")
    if overwrite or not out.exists() or any(is_marked(out / name) for name in (RESULTS, NEXT)):
        return
    entries = sum(1 for entry in out.iterdir() if not _is_left_behind(entry))
    if entries:
        raise InputError(
            f"output: expected a new, empty or earlier report's folder, got {str(out)!r} with "
            f"{entries} {'entry' if entries == 1 else 'entries'} of something else. "
            "Choose another folder or pass --overwrite."
        )


def find_results(path: str | Path) -> Path:
    """Return the ``results`` folder of a report, whose folder or ``results`` is given.

    Raises:
        ResultsError: there is none, or it is a link.
    """
    folder = Path(os.path.abspath(path))
    if not is_file(folder / MARKER):
        folder = folder / RESULTS
    if not is_file(folder / MARKER):
        raise ResultsError(
            f"results: expected a folder made by 'camreport run', got {str(path)!r}."
        )
    if not is_folder(folder):
        raise ResultsError(
            f"results: expected a folder, got the link {str(folder)!r}, which may lead anywhere. "
            "Put what it leads to in its place."
        )
    return folder


def load_results(path: str | Path) -> Results:
    """Open a complete results folder.

    Args:
        path: the folder of a report, or its ``results``.

    Raises:
        ResultsError: there are no results, they are incomplete, damaged, or of another schema.
    """
    folder = find_results(path)
    manifest = read_json(folder / MANIFEST, folder.parent)
    if not manifest:
        raise ResultsError(
            f"results: {str(path)!r} is incomplete, it has no {MANIFEST} that can be read. "
            "Run the same 'camreport run' again: it goes on where it stopped."
        )
    if manifest.get("schema") != SCHEMA:
        raise ResultsError(
            f"results: expected schema {SCHEMA}, got {manifest.get('schema')!r}. "
            "Run 'camreport run' again with this version."
        )
    check_manifest(manifest)
    return Results(folder, manifest)


def softmax(logits: NDArray[np.float32], axis: int = -1) -> NDArray[np.float64]:
    """Return the softmax of logits along an axis."""
    largest = logits.max(axis=axis, keepdims=True).astype(np.float64)
    with np.errstate(invalid="ignore"):  # logits that are not finite have no probabilities
        exponentials: NDArray[np.float64] = np.exp(logits.astype(np.float64) - largest)
        shares: NDArray[np.float64] = exponentials / exponentials.sum(axis=axis, keepdims=True)
    return shares


def probabilities(logits: NDArray[np.float32], activation: str) -> NDArray[np.float64]:
    """Return the probabilities of one image's logits ``(num_classes,)``.

    Args:
        logits: of the classes.
        activation: ``softmax`` over exclusive classes, ``sigmoid`` of each class by itself, or
            ``none`` where the logits are probabilities already.
    """
    if activation == NONE:
        return logits.astype(np.float64)
    if activation == SIGMOID:
        both: NDArray[np.float64] = softmax(np.stack([np.zeros_like(logits), logits]), axis=0)
        chances: NDArray[np.float64] = both[1]
        return chances
    return softmax(logits)


def activation_of(manifest: Record) -> str:
    """Return how a run's logits become probabilities."""
    return str(manifest.get("activation", SOFTMAX))


def read_json(path: Path, root: Path) -> Record:
    """Return a JSON file's object, or an empty one where there is none that can be read."""
    try:
        record = json.loads(read(path, root, MAX_JSON_BYTES))
    except (ResultsError, ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _is_left_behind(entry: Path) -> bool:
    """Say whether a run that was stopped in its first moment has left this."""
    if entry.name == LOCK:
        return True
    if entry.name != RESULTS or not is_folder(entry):
        return False
    return all(inside.name.startswith(MARKER) for inside in entry.iterdir())


def read_photo(folder: Path, index: int) -> bytes:
    """Return the bytes of a photograph in a ``results`` folder.

    Raises:
        ResultsError: it is missing, a link, or too large.
    """
    return read(folder / PHOTOS / f"{index}.jpg", folder.parent, MAX_PHOTO_BYTES)


def decode_photo(data: bytes, name: str) -> Image.Image:
    """Return a photograph of ours, RGB.

    Raises:
        ResultsError: no JPEG, damaged, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            picture = Image.open(BytesIO(data), formats=("JPEG",))
        if picture.width * picture.height > MAX_PHOTO_PIXELS:
            raise ValueError(f"{picture.width} × {picture.height} pixels")
        return picture.convert("RGB")
    except Exception as error:  # Pillow's decoder raises whatever the damage leads to
        reason = re.sub(r"<_io\S* object at \w+>", "it", str(error))
        raise ResultsError(
            f"results: {name} is damaged ({reason}). Run 'camreport run' again."
        ) from error
