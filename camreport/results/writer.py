"""Writing a results folder: shard by shard, resumed where it stopped, complete all at once.

While earlier results of other settings stand in ``OUT/results``, a run writes to a folder beside
them; with its manifest it takes their place. Until then the earlier report stays as it is.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np

from camreport.errors import InputError, ResultsError
from camreport.files import (
    MARKER,
    RESULTS,
    is_file,
    is_folder,
    is_marked,
    make_folder,
    remove_leftovers,
    reported,
    take_over,
    write,
    writing,
)
from camreport.messages import message
from camreport.results.decoding import Entry, decode, shortened
from camreport.results.reader import (
    MANIFEST,
    NEXT,
    REPORT,
    Record,
    check_output,
    decode_photo,
    read_json,
)
from camreport.results.schema import (
    IMAGE,
    PHOTO,
    PHOTO_OFFSETS,
    SCHEMA,
    ClassEntry,
    LayerEntry,
    Manifest,
    Sidecar,
)
from camreport.results.shards import Arrays, pack_photos, read_shard, shard_name, sidecar_name

MAX_DISCARDED = 1000
"""Finished shards of other settings from which on only ``overwrite`` replaces them."""

_LAST = ".camreport-last"
_SHARD_FILE = re.compile(r"shard-(\d{6,9})\.(npz|json)")


@dataclass(frozen=True, kw_only=True, slots=True)
class _Skip(Entry):
    method: str
    layer: str | None
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class _Plan(Entry):
    """What the first batch has settled, as the marker keeps it."""

    batch: int
    shard: int
    activation: str
    output: str | None
    classes: tuple[ClassEntry, ...]
    layers: tuple[LayerEntry, ...]
    channels: tuple[LayerEntry, ...]
    skipped: tuple[_Skip, ...]
    notes: tuple[str, ...]


@dataclass
class ResultsWriter:
    """Writes a run's results, shard by shard; resumes an interrupted run of equal settings.

    A shard covers a fixed range of the inputs, whatever the batch size. Nothing is written before
    the first shard is ready. The caller holds the folder's lock.

    Attributes:
        out: the folder of report and results.
        settings: what the run was asked to do, as far as its maps depend on it.
        overwrite: whether a folder that is not ours, or many shards, may be replaced.
        plan: what the first batch has settled, kept in the marker for a run that resumes.
        kept: the folder that holds each finished shard that stays, by its number.
    """

    out: Path
    settings: Record
    overwrite: bool = False
    plan: Record = field(default_factory=dict)
    kept: dict[int, Path] = field(default_factory=dict, init=False)
    _sources: list[Path] = field(default_factory=list, init=False)
    _waiting: dict[int, Record] = field(default_factory=dict, init=False)
    _claimed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_output(self.out, self.overwrite)
        _settle(self.out)
        self.settings = json.loads(_json(self.settings))  # as the marker will give it back
        for folder in (self.out / NEXT, self.out / RESULTS):
            marker = read_json(folder / MARKER, self.out)
            if marker.get("schema") == SCHEMA and marker.get("settings") == self.settings:
                with suppress(ResultsError):
                    plan = marker.get("plan", {})
                    decode(_Plan, plan, MARKER)
                    self.plan = self.plan or plan
                    self._sources += [folder] if plan == self.plan else []

    @property
    def folder(self) -> Path:
        """Where shards are written: beside results that are complete, until these are too."""
        complete = is_file(self.out / RESULTS / MANIFEST)
        return self.out / (NEXT if complete else RESULTS)

    def manifest(self) -> Record:
        """Return the manifest of an earlier run with equal settings; empty if there is none."""
        results = self.out / RESULTS
        return read_json(results / MANIFEST, self.out) if results in self._sources else {}

    def finished_shards(self) -> dict[int, Record]:
        """Return what ``write_shard`` was given of the shards that are whole, by number."""
        found: dict[int, Record] = {}
        for folder in self._sources:
            for shard in sorted(_shards_in(folder).keys() - found.keys()):
                summary = self._summary(folder, shard)
                if summary:
                    found[shard], self.kept[shard] = summary, folder
        return found

    def keep(self, shards: Iterable[int]) -> None:
        """Keep these of the finished shards; the others will be written again.

        Raises:
            InputError: many finished shards of other settings or inputs would go.
        """
        self.kept = {shard: self.kept[shard] for shard in shards}
        for folder in (self.out / NEXT, self.out / RESULTS):
            self._check_discarded(folder)

    def write_shard(
        self, shard: int, arrays: Arrays, summary: Record, photos: Mapping[int, bytes]
    ) -> None:
        """Write a shard with its photographs; with its summary, written last, it is finished.

        Args:
            shard: its number.
            arrays: maps ``(n, K, h, w)``, ``logits``, ``targets``, ``image`` of its n images;
                empty where no input could be read.
            summary: ``images``, the records of its inputs, their ``facts``, and ``cost``.
            photos: JPEG bytes by index of the image, in the order of the arrays.

        Raises:
            OutputError: the disk is full, or the folder cannot be written to.
        """
        if not (arrays or self._claimed):  # perhaps no input can be read, and nothing is written
            self._waiting[shard] = summary
            return
        self._claim()
        path = self.folder / shard_name(shard)
        record = path.with_suffix(".json")
        with reported(record):
            record.unlink(missing_ok=True)
        if arrays:
            packed = dict(zip((PHOTO, PHOTO_OFFSETS), pack_photos([*photos.values()]), strict=True))
            with writing(path, self.out) as file:
                np.savez(file, **arrays, **packed)  # type: ignore[arg-type]
        self._write_summary(shard, summary)

    def write_manifest(self, manifest: Record) -> bool:
        """Write the manifest, which completes the results, and take the earlier ones' place.

        Returns:
            Whether it says more than the one before, other than another command.
        """
        new, before = self._manifest(manifest).to_json(), self.manifest()
        if self._claimed or self._waiting or {*self.kept.values()} != {self.out / RESULTS}:
            self._claim()
            folder = self.folder  # which the manifest decides
            write(folder / MANIFEST, _json(new), self.out)
            self._prune(folder, manifest["images"])
            if folder != self.out / RESULTS:
                self._take_place()
        elif new != before:
            write(self.out / RESULTS / MANIFEST, _json(new), self.out)
            self._prune(self.out / RESULTS, manifest["images"])
        return bool({**new, "command": ""} != {**before, "command": ""})

    def _manifest(self, manifest: Record) -> Manifest:
        images = manifest["images"]
        failed = sum(record["status"] == "failed" for record in images)
        content = _with_messages(json.loads(_json(manifest))) | {
            "schema": SCHEMA,
            "totals": {
                "images": len(images),
                "failed": failed,
                "shard_length": self.plan["shard"],
            },
        }
        return Manifest.from_json(content, MANIFEST)

    def _take_place(self) -> None:
        """Put the complete results in the place of earlier ones, which go."""
        results = self.out / RESULTS
        with reported(results):
            os.replace(results, self.out / _LAST)
            os.replace(self.out / NEXT, results)
            (self.out / REPORT).unlink(missing_ok=True)  # it shows the earlier results
        _settle(self.out)

    def _write_summary(self, shard: int, summary: Record) -> None:
        arrays = self.folder / shard_name(shard)
        content = _with_messages(json.loads(_json(summary))) | {
            "run": self._fingerprint(),
            "facts": [fact and dict(zip(_FACTS, fact, strict=True)) for fact in summary["facts"]],
            "device": self.settings["device"],
            "bytes": arrays.stat().st_size if _readable(summary) else 0,
        }
        name = sidecar_name(shard)
        sidecar = Sidecar.from_json(content, name)
        write(self.folder / name, _json(sidecar.to_json()), self.out)

    def _claim(self) -> None:
        """Make the folder ours, once: remove what belongs to another run, take over what stays."""
        if self._claimed:
            return
        folder = self.folder
        make_folder(folder, self.out)
        with reported(folder):
            if folder not in self._sources:
                for file in _own_files(folder):
                    file.unlink()
            remove_leftovers(folder, self.out)
        record = {"schema": SCHEMA, "plan": self.plan, "settings": self.settings}
        write(folder / MARKER, _json(record), self.out)
        for shard, source in self.kept.items():
            if source != folder:
                self._take_over(shard, source, folder)
        for shard, summary in self._waiting.items():
            self._write_summary(shard, summary)
        self._claimed = True

    def _take_over(self, shard: int, source: Path, folder: Path) -> None:
        """Give a finished shard of one folder to another, without its bytes where possible."""
        summary = self._summary(source, shard)
        arrays = [shard_name(shard)] if _readable(summary) else []
        for part in (*arrays, sidecar_name(shard)):
            take_over(source / part, folder / part, self.out)

    def _prune(self, folder: Path, images: Sequence[Record]) -> None:
        """Remove the shards that no image of the run has."""
        last = (len(images) - 1) // self.plan["shard"]
        with reported(folder):
            for shard, files in _shards_in(folder).items():
                for file in files if shard > last else ():
                    file.unlink()

    def _summary(self, folder: Path, shard: int) -> Record:
        """Return a finished shard's summary; empty where anything of it is missing or damaged."""
        content = read_json(folder / sidecar_name(shard), self.out)
        try:
            sidecar = Sidecar.from_json(content, sidecar_name(shard))
            if sidecar.run != self._fingerprint():
                return {}
            summary = _with_sentences(sidecar)
            read = _readable(summary)
            if read:
                arrays = read_shard(folder / shard_name(shard), self.out)
                if arrays[IMAGE].tolist() != read:
                    return {}
                for start, stop in pairwise(arrays[PHOTO_OFFSETS]):
                    decode_photo(arrays[PHOTO][start:stop].tobytes(), shard_name(shard))
        except (ResultsError, KeyError, TypeError):
            return {}
        return summary

    def _fingerprint(self) -> str:
        """Return what tells this run's shards from those of other settings."""
        return hashlib.sha256(_json({"settings": self.settings, **self.plan})).hexdigest()

    def _check_discarded(self, folder: Path) -> None:
        """Refuse to replace what took hours.

        Raises:
            InputError: a folder holds that many finished shards of other settings or inputs.
        """
        stays = self.kept if folder in self._sources else {}
        count = len(_shards_in(folder).keys() - stays.keys())
        if count < MAX_DISCARDED or self.overwrite:
            return
        before = read_json(folder / MARKER, self.out).get("settings")
        before = before if isinstance(before, dict) else {}
        differing = [key for key in self.settings if before.get(key) != self.settings[key]]
        raise InputError(
            f"output: {str(self.out)!r} holds {count:,} finished shards of a run that differs "
            f"in {', '.join(differing) or 'its images'}. Ask for the same to go on with them, "
            "choose another folder, or pass --overwrite to replace them."
        )


def _settle(out: Path) -> None:
    """Finish what a run was about when it was stopped: one folder taking another's place."""
    results, following, last = out / RESULTS, out / NEXT, out / _LAST
    with reported(results):
        if not os.path.lexists(results):
            if is_marked(following) and is_file(following / MANIFEST):
                os.replace(following, results)
            elif is_marked(last):
                os.replace(last, results)
        if not is_marked(last):
            return
        for file in _own_files(last):
            file.unlink()
        remove_leftovers(last, out)
        for path in [*last.iterdir()]:  # what somebody else put there
            target = results / path.relative_to(last)
            if path.name != MARKER and not os.path.lexists(target):
                os.replace(path, target)
        with suppress(OSError):  # where something has kept its place, it stays there
            (last / MARKER).unlink()
            last.rmdir()


def _own_files(folder: Path) -> list[Path]:
    """Return what a run has written to a folder but its marker, the manifest first."""
    shards = [file for files in _shards_in(folder).values() for file in files]
    manifest = [folder / MANIFEST] if os.path.lexists(folder / MANIFEST) else []
    return [*manifest, *shards]


def _shards_in(folder: Path) -> dict[int, list[Path]]:
    """Return the files of the shards in a folder by their numbers."""
    found: dict[int, list[Path]] = {}
    if is_folder(folder):
        for path in sorted(folder.iterdir()):
            name = _SHARD_FILE.fullmatch(path.name)
            if name:
                found.setdefault(int(name[1]), []).append(path)
    return found


_FACTS = ("bytes", "modified_ns", "changed_ns")


def _with_messages(content: Record) -> Record:
    """Return a manifest or a shard's summary with its sentences as messages."""
    for record in (*content["images"], *content.get("skipped", ())):
        for name in {"reason", "note"} & record.keys():
            record[name] = _text(record[name])
    if "findings" in content:
        content["findings"] = [_text(finding) for finding in content["findings"]]
    if model := content.get("model"):
        model |= {"source": _text(model["source"]), "notes": [*map(_text, model["notes"])]}
        model["warning"] = _text(model["warning"]) if model["warning"] else None
    return content


def _text(sentence: str) -> Record:
    return message("results.text", text=shortened(sentence)).to_json()


def _with_sentences(sidecar: Sidecar) -> Record:
    """Return a shard's summary with its messages as sentences."""
    return {
        "images": [
            image.to_json()
            | ({"reason": str(image.reason)} if image.reason else {})
            | ({"note": str(image.note)} if image.note else {})
            for image in sidecar.images
        ],
        "facts": [
            None if fact is None else [fact.bytes, fact.modified_ns, fact.changed_ns]
            for fact in sidecar.facts
        ],
        "cost": sidecar.cost.to_json(),
        "findings": [str(finding) for finding in sidecar.findings],
    }


def _readable(summary: Record) -> list[int]:
    return [record["index"] for record in summary["images"] if record["status"] == "ok"]


def _json(record: Record) -> bytes:
    return json.dumps(record, indent=1, allow_nan=False).encode()
