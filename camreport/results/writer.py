"""Writing a results folder: shard by shard, resumed where it stopped, complete all at once.

While earlier results stand in ``OUT/results``, a run that changes them writes to a folder beside
them; with its manifest it takes their place. Until then the earlier report stays as it is.
"""

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from camreport.errors import InputError, ResultsError
from camreport.files import (
    MARKER,
    RESULTS,
    create,
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
from camreport.results.decoding import Entry
from camreport.results.reader import MANIFEST, NEXT, REPORT, check_output, read_json
from camreport.results.schema import SCHEMA, Manifest, Sidecar
from camreport.results.shards import Arrays, read_shard, shard_name

MAX_DISCARDED = 1000
"""Finished shards from which on only ``overwrite`` gives them up."""

Record = dict[str, Any]
"""A JSON object."""

_LAST = ".camreport-last"
_SHARD_FILE = re.compile(r"shard-(\d{6,9})\.(npz|json)")


@dataclass(frozen=True, kw_only=True, slots=True)
class Marker(Entry):
    """What the marker file says of the run that a folder belongs to.

    Attributes:
        schema: version of the folder's layout.
        run: fingerprint of settings and plan.
        settings: all that decides the maps of every method, but the files.
        methods: the methods of the run.
        inputs: digest of the inputs' names.
        plan: what one image has settled for the run.
    """

    schema: int
    run: str
    settings: Record
    methods: tuple[str, ...]
    inputs: str
    plan: Record


@dataclass(frozen=True)
class Finished:
    """A shard that an earlier run has finished.

    Attributes:
        folder: where it lies.
        sidecar: what stands beside it.
    """

    folder: Path
    sidecar: Sidecar


def earlier_run(out: Path, settings: Record) -> Marker | None:
    """Return the marker of an earlier run whose maps had equal settings; None if there is none.

    Args:
        out: the folder of report and results.
        settings: what decides the maps of this run.
    """
    _settle(out)
    for folder in (out / NEXT, out / RESULTS):
        content = read_json(folder / MARKER, out)
        equal = content.get("settings") == json.loads(_json(settings))
        if content.get("schema") == SCHEMA and equal:
            with suppress(ResultsError):
                return Marker.from_json(content, MARKER)
    return None


@dataclass
class ResultsWriter:
    """Writes a run's results, shard by shard; goes on with what an earlier run has finished.

    Nothing is written before the first shard is ready. The caller holds the folder's lock.

    Attributes:
        out: the folder of report and results.
        marker: what the marker file is to say.
        described: returns an earlier sidecar with this run's labels and names of classes.
        overwrite: whether a folder that is not ours, or many shards, may be replaced.
        max_discarded: finished shards from which on only ``overwrite`` gives them up.
    """

    out: Path
    marker: Marker
    described: Callable[[Sidecar], Sidecar] = lambda sidecar: sidecar
    overwrite: bool = False
    max_discarded: int = MAX_DISCARDED
    _sizes: dict[Path, dict[str, int]] = field(default_factory=dict, init=False)
    _kept: dict[int, Path] = field(default_factory=dict, init=False)
    _changed: bool = field(default=False, init=False)
    _claimed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_output(self.out, self.overwrite)
        _settle(self.out)
        places = (self.out / NEXT, self.out / RESULTS)
        self._sizes = {folder: _listed(folder) for folder in places}

    @property
    def folder(self) -> Path:
        """Where shards are written: beside results that are complete, until these are too."""
        complete = is_file(self.out / RESULTS / MANIFEST)
        return self.out / (NEXT if complete else RESULTS)

    def manifest(self) -> Manifest | None:
        """Return the manifest of the results that stand there, if there is one."""
        with suppress(ResultsError):
            content = read_json(self.out / RESULTS / MANIFEST, self.out)
            return Manifest.from_json(content, MANIFEST)
        return None

    def finished(self, number: int) -> Finished | None:
        """Return a shard of this run that is finished; None if there is none.

        Its arrays are trusted by the size of their file. Of two, the one whose methods are closest
        to those of this run is returned.
        """
        found = [Finished(f, s) for f in self._sizes if (s := self._sidecar(f, number))]
        wanted = {*self.marker.methods}

        def fit(one: Finished) -> tuple[int, int]:
            has = {*one.sidecar.methods}
            return len(wanted & has), -len(has - wanted)

        return max(found, key=fit, default=None)

    def read(self, number: int, finished: Finished) -> Arrays:
        """Return the arrays of a finished shard; none where no input could be read.

        Raises:
            ResultsError: they are damaged.
        """
        if not finished.sidecar.bytes:
            return {}
        return read_shard(finished.folder / shard_name(number), self.out)

    def keep(self, kept: Mapping[int, Finished], extended: Iterable[int] = ()) -> None:
        """Keep finished shards as they are; all others will be written.

        Args:
            kept: by number.
            extended: numbers of those that will be written with all that they hold, and more.

        Raises:
            InputError: many finished shards would go.
        """
        self._kept = {number: finished.folder for number, finished in kept.items()}
        self._changed = any(
            finished.folder != self.out / RESULTS
            or self.described(finished.sidecar) != finished.sidecar
            for finished in kept.values()
        )
        for folder in self._sizes:
            self._check_discarded(folder, {*self._kept, *extended})

    def commit(self, number: int, arrays: Arrays, sidecar: Sidecar) -> None:
        """Write a shard; with its sidecar, written last, it is finished.

        Args:
            number: of the shard.
            arrays: ``(n, ...)`` of its n readable images; empty where there is none.
            sidecar: what stands beside it, but for its run and the size of the arrays' file.

        Raises:
            OutputError: the disk is full, or the folder cannot be written to.
        """
        self._claim()
        path = self.folder / shard_name(number)
        record = path.with_suffix(".json")
        size = 0
        with reported(record):
            record.unlink(missing_ok=True)
        if arrays:
            with writing(path, self.out) as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
                size = file.tell()
        write(record, _json(replace(sidecar, run=self.marker.run, bytes=size).to_json()), self.out)

    def complete(self, manifest: Manifest) -> bool:
        """Write the manifest, which completes the results, and take the earlier ones' place.

        Returns:
            Whether the results are not those that stood there before.
        """
        before = self.manifest()
        same = before is not None and replace(before, command="") == replace(manifest, command="")
        if self._claimed or self._changed or not before:
            self._claim()
            folder = self.folder  # which the manifest decides
            write(folder / MANIFEST, _json(manifest.to_json()), self.out)
            self._prune(folder, manifest)
            if folder != self.out / RESULTS:
                self._take_place()
        elif manifest != before:
            write(self.out / RESULTS / MANIFEST, _json(manifest.to_json()), self.out)
            self._prune(self.out / RESULTS, manifest)
        return not same

    def _take_place(self) -> None:
        """Put the complete results in the place of earlier ones, which go."""
        results = self.out / RESULTS
        with reported(results):
            os.replace(results, self.out / _LAST)
            os.replace(self.out / NEXT, results)
            (self.out / REPORT).unlink(missing_ok=True)  # it shows the earlier results
        _settle(self.out)

    def _claim(self) -> None:
        """Make the folder ours, once: remove what belongs to another run, take over what stays."""
        if self._claimed:
            return
        folder = self.folder
        make_folder(folder, self.out)
        ours = self.marker.to_json()
        with reported(folder):
            if read_json(folder / MARKER, self.out).get("run") != self.marker.run:
                for file in _own_files(folder):
                    file.unlink()
            remove_leftovers(folder, self.out)
        if os.path.lexists(folder / MARKER):
            write(folder / MARKER, _json(ours), self.out)
        else:
            create(folder / MARKER, _json(ours), self.out)
        for number, source in self._kept.items():
            self._take_over(number, source, folder)
        self._claimed = True

    def _take_over(self, number: int, source: Path, folder: Path) -> None:
        """Give a kept shard to the folder, without copying its arrays where possible."""
        sidecar = self._sidecar(source, number)
        if sidecar is None:
            raise ResultsError(
                f"results: {shard_name(number)} has changed meanwhile. Run 'camreport run' again."
            )
        arrays = Path(shard_name(number))
        record = arrays.with_suffix(".json")
        if source != folder and sidecar.bytes:
            take_over(source / arrays, folder / arrays, self.out)
        described = self.described(sidecar)
        if described != sidecar:
            write(folder / record, _json(described.to_json()), self.out)
        elif source != folder:
            take_over(source / record, folder / record, self.out)

    def _prune(self, folder: Path, manifest: Manifest) -> None:
        """Remove the shards that no image of the run has."""
        count = -(-manifest.totals.images // manifest.totals.shard_length)
        with reported(folder):
            for number, files in _shards_in(folder).items():
                for file in files if number >= count else ():
                    file.unlink()

    def _sidecar(self, folder: Path, number: int) -> Sidecar | None:
        """Return the sidecar of a finished shard of this run, if there is one in a folder."""
        name = shard_name(number)
        record = Path(name).with_suffix(".json").name
        if record not in self._sizes[folder]:
            return None
        try:
            sidecar = Sidecar.from_json(read_json(folder / record, self.out), record)
        except ResultsError:
            return None
        there = self._sizes[folder].get(name, 0) if sidecar.bytes else 0
        return sidecar if sidecar.run == self.marker.run and sidecar.bytes == there else None

    def _check_discarded(self, folder: Path, stay: set[int]) -> None:
        """Refuse to give up what took hours.

        Raises:
            InputError: a folder holds that many finished shards that this run would replace.
        """
        count = len(_shards_in(folder).keys() - stay)
        if count < self.max_discarded or self.overwrite:
            return
        before, ours = read_json(folder / MARKER, self.out), self.marker.to_json()
        settings = before.get("settings")
        settings = settings if isinstance(settings, dict) else {}
        differing = [key for key, own in ours["settings"].items() if settings.get(key) != own]
        differing += [key for key in ("methods", "inputs") if before.get(key) != ours[key]]
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
            target = results / path.name
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


def _listed(folder: Path) -> dict[str, int]:
    """Return the sizes of the regular files in a folder by their names, from one listing."""
    if not is_folder(folder):
        return {}
    with os.scandir(folder) as entries:
        return {
            entry.name: entry.stat(follow_symlinks=False).st_size
            for entry in entries
            if entry.is_file(follow_symlinks=False)
        }


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode()
