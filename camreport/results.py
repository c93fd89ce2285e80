"""The results folder: what a run leaves for researchers, and all that the gallery reads.

    OUT/results/.camreport          marker: the folder is ours; what the run was asked to do
    OUT/results/shard-00000.npz     raw maps, logits and targets of a range of the images
    OUT/results/shard-00000.json    their records, until the manifest has taken them in
    OUT/results/photos/0.jpg        the photographs at display size
    OUT/results/manifest.json       written last: its presence says that the run is complete

Every file is written under a temporary name and then renamed. Nothing here imports torch.
"""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from camreport.errors import InputError, ResultsError

SCHEMA = 2
"""Version of the folder's layout."""

REPORT = "index.html"
"""File name of the report, beside ``results``."""

DATA = "data"
"""The folder of a report's data, beside it, where it is too large for one file."""

_MARKER = ".camreport"
_MANIFEST = "manifest.json"

Record = dict[str, Any]
"""A JSON object."""

Arrays = dict[str, NDArray[Any]]
"""A shard's arrays by key: ``"<method>/<layer>"``, ``logits``, ``targets``, ``image``; of channel
layers ``"feature_maps/<layer>"`` ``(n, C, h, w)``, ``"channel_weights/<layer>"`` ``(n, K, C)``."""


@dataclass
class Results:
    """A complete results folder, read shard by shard; the last shard stays in memory.

    Attributes:
        path: the ``results`` folder.
        manifest: as in ``manifest.json``.
    """

    path: Path
    manifest: Record
    _shard: tuple[str, Arrays] = ("", {})

    @property
    def images(self) -> list[Record]:
        """The records of all images, failed ones included."""
        return list(self.manifest["images"])

    def photo(self, index: int) -> bytes:
        """Return an image's photograph at display size, as JPEG bytes.

        Raises:
            ResultsError: it is missing.
        """
        try:
            return (self.path / "photos" / f"{index}.jpg").read_bytes()
        except OSError as error:
            raise ResultsError(
                f"results: photos/{index}.jpg cannot be read ({error.strerror}). "
                "Run the same 'camreport run' again."
            ) from error

    def arrays(self, index: int) -> Arrays:
        """Return one image's arrays: maps ``(K, h, w)``, logits ``(num_classes,)``, targets.

        Raises:
            ResultsError: the image failed, or its shard is missing or damaged.
        """
        record = self.manifest["images"][index]
        if record["status"] != "ok":
            raise ResultsError(f"image: {record['file']!r} has no maps ({record['reason']}).")
        if self._shard[0] != record["shard"]:
            self._shard = record["shard"], _read_shard(self.path / record["shard"])
        return {key: array[record["row"]] for key, array in self._shard[1].items()}


@dataclass
class ResultsWriter:
    """Writes a run's results, shard by shard; takes up an interrupted run of equal settings.

    A shard covers a fixed range of the inputs, whatever the batch size. The folder is claimed,
    and an earlier run's files are removed, only when the first shard is ready.

    Attributes:
        out: the folder of report and results.
        settings: what the run was asked to do; decides whether earlier shards can stay.
        overwrite: whether a folder that is not ours may be used.
        plan: what the first batch has settled, kept in the marker for a run that resumes.
        resumes: whether shards of an earlier run with equal settings are kept.
    """

    out: Path
    settings: Record
    overwrite: bool = False
    plan: Record = field(default_factory=dict)
    resumes: bool = field(default=False, init=False)
    _claimed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_output(self.out, self.overwrite)
        self.settings = json.loads(_json(self.settings))  # as the marker will give it back
        marker = _read_json(self.folder / _MARKER)
        if marker.get("settings") == self.settings and marker.get("schema") == SCHEMA:
            self.plan = marker["plan"]
            self.resumes = True

    @property
    def folder(self) -> Path:
        """The ``results`` folder."""
        return self.out / "results"

    def is_complete(self) -> bool:
        """Say whether an earlier run with equal settings has finished and nothing is damaged."""
        if not self.resumes:
            return False
        try:
            results = load_results(self.out)
            for record in results.images:
                if record["status"] == "ok":
                    results.arrays(record["index"])
                    results.photo(record["index"])
        except ResultsError:
            return False
        return True

    def finished_shards(self) -> dict[int, Record]:
        """Return ``images`` and ``cost`` of the shards an earlier run has finished, by number."""
        if not self.resumes:
            return {}
        found = {
            int(path.stem.removeprefix("shard-")): _read_json(path.with_suffix(".json"))
            for path in sorted(self.folder.glob("shard-*.npz"))
        }
        return {shard: record for shard, record in found.items() if record}

    def write_shard(
        self, shard: int, arrays: Arrays, summary: Record, photos: Mapping[int, bytes]
    ) -> None:
        """Write a shard with its photographs; it counts as finished once it is renamed.

        Args:
            shard: its number.
            arrays: maps ``(n, K, h, w)``, ``logits``, ``targets``, ``image`` of its n images.
            summary: ``images``, the records of its inputs, and ``cost``.
            photos: JPEG bytes by index of the image.
        """
        self._claim()
        for index, photo in photos.items():
            _write(self.folder / "photos" / f"{index}.jpg", photo)
        path = self.folder / shard_name(shard)
        _write(path.with_suffix(".json"), _json(summary))
        temporary = path.with_name(path.name + ".part")
        with temporary.open("wb") as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(temporary, path)

    def write_manifest(self, manifest: Record) -> None:
        """Write the manifest, which completes the results, and drop what it has taken in."""
        self._claim()
        _write(self.folder / _MANIFEST, _json({"schema": SCHEMA, **manifest}))
        for sidecar in self.folder.glob("shard-*.json"):
            sidecar.unlink()

    def _claim(self) -> None:
        """Make the folder ours, once: remove what belongs to another run, put up the marker."""
        if self._claimed:
            return
        (self.out / REPORT).unlink(missing_ok=True)
        (self.folder / _MANIFEST).unlink(missing_ok=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.resumes:  # the old marker stays until then, so that the folder stays ours
            for pattern in ("shard-[0-9]*", "photos/[0-9]*.jpg*"):
                for file in self.folder.glob(pattern):
                    file.unlink()
        record = {"schema": SCHEMA, "plan": self.plan, "settings": self.settings}
        _write(self.folder / _MARKER, _json(record))
        (self.folder / "photos").mkdir(exist_ok=True)
        self._claimed = True


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
        (out / "results", Path.is_dir, "a folder"),
        (out / REPORT, Path.is_file, "a file"),
    ):
        if path.exists() and not is_kind(path):
            raise InputError(f"output: {str(path)!r} must be {kind} or absent. Move it away.")
    if overwrite or not out.exists() or (out / "results" / _MARKER).exists():
        return
    entries = sum(1 for entry in out.iterdir() if not _is_empty_results(entry))
    if entries:
        raise InputError(
            f"output: expected a new, empty or earlier report's folder, got {str(out)!r} with "
            f"{entries} {'entry' if entries == 1 else 'entries'} of something else. "
            "Choose another folder or pass --overwrite."
        )


def load_results(path: str | Path) -> Results:
    """Open a complete results folder.

    Args:
        path: the folder of a report, or its ``results``.

    Raises:
        ResultsError: there are no results, they are incomplete, or of another schema.
    """
    folder = Path(path)
    if not (folder / _MARKER).exists():
        folder = folder / "results"
    if not (folder / _MARKER).exists():
        raise ResultsError(
            f"results: expected a folder made by 'camreport run', got {str(path)!r}."
        )
    manifest = _read_json(folder / _MANIFEST)
    if not manifest:
        raise ResultsError(
            f"results: {str(path)!r} is incomplete, it has no {_MANIFEST} that can be read. "
            "Run the same 'camreport run' again: it goes on where it stopped."
        )
    if manifest.get("schema") != SCHEMA:
        raise ResultsError(
            f"results: expected schema {SCHEMA}, got {manifest.get('schema')}. "
            "Run 'camreport run' again with this version."
        )
    return Results(folder, manifest)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the probabilities of one image's logits ``(num_classes,)``."""
    with np.errstate(invalid="ignore"):  # logits that are not finite have no probabilities
        exponentials: NDArray[np.float64] = np.exp(logits.astype(np.float64) - float(logits.max()))
        probabilities: NDArray[np.float64] = exponentials / exponentials.sum()
    return probabilities


def shard_name(shard: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{shard:05d}.npz"


def stack_arrays(rows: Iterable[Arrays]) -> Arrays:
    """Stack the arrays of single images into those of a shard."""
    listed = list(rows)
    return {key: np.stack([row[key] for row in listed]) for key in listed[0]}


def _read_shard(path: Path) -> Arrays:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as shard:
            return {key: shard[key] for key in shard.files}
    except Exception as error:  # the archive's readers raise whatever the damage leads to
        raise ResultsError(
            f"results: {path.name} cannot be read ({error}). Run 'camreport run' again."
        ) from error


def _is_empty_results(entry: Path) -> bool:
    """Say whether this is a ``results`` folder left by a run stopped in its first moment."""
    if entry.name != "results" or not entry.is_dir():
        return False
    return all(inside.name.startswith(_MARKER) for inside in entry.iterdir())


def _json(record: Record) -> bytes:
    return json.dumps(record, indent=1, allow_nan=False).encode()


def _read_json(path: Path) -> Record:
    """Return a JSON file's object, or an empty one where there is none that can be read."""
    try:
        record = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write(path: Path, data: bytes) -> None:
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(data)
    os.replace(temporary, path)
