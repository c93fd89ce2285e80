"""Writing a results folder: shard by shard, with resume, and replaced only when complete.

If ``OUT/results`` has complete results of an earlier run, a run that changes them writes to a
second folder, which replaces ``OUT/results`` once its manifest is written. Until then the earlier
report stays unchanged.

On object storage no folder can be renamed: a run that changes complete results removes their
manifest first, and results of other settings need ``overwrite``. There is no lock either: the
marker is created by one run alone, and two equal runs write equal bytes, of which the last stay.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from camreport.errors import InputError, OutputError, ResultsError
from camreport.files import (
    MARKER,
    RESULTS,
    address_of,
    create,
    is_file,
    is_marked,
    is_there,
    make_folder,
    named,
    names_in,
    remove,
    remove_leftovers,
    reported,
    sizes,
    take_over,
    write,
)
from camreport.results.decoding import Entry
from camreport.results.evidence import (
    COLLAGES,
    SPARE_COLLAGES,
    EvidenceSidecar,
    evidence_name,
    spare_name,
)
from camreport.results.reader import MANIFEST, NEXT, REPORT, check_output, read_json
from camreport.results.schema import (
    SCHEMA,
    TARGETS,
    Manifest,
    Sidecar,
    TrueSidecar,
)
from camreport.results.shards import (
    FINGERPRINT,
    Arrays,
    fingerprint,
    numbers_name,
    packed,
    read_shard,
    shard_name,
    sidecar_name,
    true_name,
)

MAX_DISCARDED = 1000
"""Number of finished shards from which a run needs ``overwrite`` to replace them."""

Record = dict[str, Any]
"""A JSON object."""

_LAST = ".camreport-last"
_SHARD_FILE = re.compile(r"(shard|numbers|true|evidence|spare)-(\d{6,9})\.(?:npz|json)")
_BESIDE = ("true-", "evidence-", "spare-")
_S = TypeVar("_S", Sidecar, TrueSidecar, EvidenceSidecar)
_Beside = TypeVar("_Beside", TrueSidecar, EvidenceSidecar)


@dataclass(frozen=True, kw_only=True, slots=True)
class Marker(Entry):
    """The content of the marker file, which describes the run of a results folder.

    Attributes:
        schema: version of the folder's layout.
        run: fingerprint of settings and plan.
        settings: everything that determines the maps, except the plan, the methods and the files.
        methods: the methods of the run.
        inputs: digest of the inputs' names.
        plan: the plan of the run, as JSON.
        of_parts: whether shards come from parts of the run, until it is completed; other machines
            may have taken hours for them, so a run with other settings does not replace them.
    """

    schema: int
    run: str
    settings: Record
    methods: tuple[str, ...]
    inputs: str
    plan: Record
    of_parts: bool = False


@dataclass(frozen=True)
class Finished(Generic[_S]):
    """A shard, or a file beside it, that an earlier run has finished.

    Attributes:
        folder: folder of the file.
        sidecar: sidecar of the file.
    """

    folder: Path
    sidecar: _S


def earlier_run(out: Path, settings: Record) -> Marker | None:
    """Return the marker of an earlier run with equal settings of the maps; None if there is none.

    Args:
        out: the folder of the report and the results.
        settings: the settings that determine the maps of this run.
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
    """Writes a run's results, shard by shard, and reuses the finished shards of an earlier run.

    Nothing is written before the first shard is ready. The caller holds the folder's lock.

    Attributes:
        out: the folder of the report and the results.
        marker: the content of the marker file.
        described: returns an earlier sidecar with this run's labels and class names.
        overwrite: whether a folder of another program, or many shards, may be replaced.
        max_discarded: number of finished shards from which only ``overwrite`` replaces them.
        shared: whether other processes may write shards of the run at the same time; nothing is
            removed then, and the lock may be shared with them.
        numbers: the shards whose files are looked for; all if None.
    """

    out: Path
    marker: Marker
    described: Callable[[Sidecar], Sidecar] = lambda sidecar: sidecar
    overwrite: bool = False
    max_discarded: int = MAX_DISCARDED
    shared: bool = False
    numbers: Collection[int] | None = None
    _sizes: dict[Path, dict[str, int]] = field(default_factory=dict, init=False)
    _kept: dict[int, Path] = field(default_factory=dict, init=False)
    _beside: dict[str, Path] = field(default_factory=dict, init=False)
    _changed: bool = field(default=False, init=False)
    _claimed: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        check_output(self.out, self.overwrite)
        _settle(self.out)
        folders = (self.out / RESULTS,) if self._remote else (self.out / NEXT, self.out / RESULTS)
        look_up = self.numbers is not None and not self._remote
        listed = partial(_looked_up, numbers=self.numbers or ()) if look_up else sizes
        self._sizes = {folder: listed(folder) for folder in folders}

    @property
    def _remote(self) -> bool:
        return bool(address_of(self.out))

    @property
    def folder(self) -> Path:
        """Folder into which shards are written; not ``results`` if that has a manifest."""
        if self._remote:
            return self.out / RESULTS
        complete = is_file(self.out / RESULTS / MANIFEST)
        return self.out / (NEXT if complete else RESULTS)

    def manifest(self) -> Manifest | None:
        """Return the manifest of the results in the folder, if there is one."""
        with suppress(ResultsError):
            content = read_json(self.out / RESULTS / MANIFEST, self.out)
            return Manifest.from_json(content, MANIFEST)
        return None

    def finished(self, number: int) -> Finished[Sidecar] | None:
        """Return a finished shard that fits this run; None if there is none.

        The arrays are accepted if the size of their file is right. If there are two such shards,
        the one with the most methods of this run and the fewest others is returned.
        """
        found = [
            Finished(folder, sidecar)
            for folder in self._sizes
            if (sidecar := self._sidecar(folder, shard_name(number), Sidecar))
        ]
        return max(found, key=self._fit, default=None)

    def finished_beside(
        self, name: str, kind: type[_Beside], fits: Callable[[_Beside], bool]
    ) -> Finished[_Beside] | None:
        """Return a finished file beside the shards that fits this run, if there is one.

        Args:
            name: the name of the file of arrays.
            kind: what its sidecar is.
            fits: whether a sidecar is of just what is wanted.
        """
        found = [finished for finished in self.all_beside(name, kind) if fits(finished.sidecar)]
        return max(found, key=self._fit, default=None)

    def all_beside(self, name: str, kind: type[_Beside]) -> list[Finished[_Beside]]:
        """Return the finished files of a name beside the shards, the most recent one first."""
        return [
            Finished(folder, sidecar)
            for folder in self._sizes
            if (sidecar := self._sidecar(folder, name, kind))
        ]

    def read(
        self, name: str, finished: Finished[_S], names: Collection[str] | None = None
    ) -> Arrays:
        """Return the arrays of a finished shard, or of a file beside it.

        Args:
            name: the name of the file of arrays.
            finished: the shard or file.
            names: names of the arrays to read; all if None.

        Returns:
            The arrays by name; none if no input of the shard could be read.

        Raises:
            ResultsError: the arrays are damaged.
        """
        if not finished.sidecar.bytes:
            return {}
        return read_shard(finished.folder / name, self.out, names)

    def written(self, number: int) -> Finished[Sidecar]:
        """Return a shard of this run, kept or committed.

        Raises:
            ResultsError: its sidecar has changed meanwhile.
        """
        folder = self._kept.get(number, self.folder)
        content = read_json(folder / sidecar_name(number), self.out)
        return Finished(folder, Sidecar.from_json(content, sidecar_name(number)))

    @property
    def beside(self) -> tuple[str, ...]:
        """Names of the files beside the shards that are the run's, kept or committed."""
        return tuple(self._beside)

    def adopt(self, beside: Iterable[str]) -> None:
        """Take files beside the shards that another process has committed as the run's."""
        self._beside |= dict.fromkeys(beside, self.folder)

    def written_beside(self, name: str, kind: type[_Beside]) -> _Beside | None:
        """Return the sidecar of a file beside the shards that is the run's, if it is.

        Raises:
            ResultsError: the sidecar has changed meanwhile.
        """
        if name not in self._beside:
            return None
        record = _record(name)
        return kind.from_json(read_json(self._beside[name] / record, self.out), record)

    def targets(self, number: int, finished: Finished[Sidecar]) -> NDArray[np.int64]:
        """Return the classes explained in a finished shard, ``(n, K)``.

        Raises:
            ResultsError: the arrays are damaged.
        """
        targets = self.read(shard_name(number), finished, {TARGETS}).get(TARGETS)
        readable = sum(image.readable for image in finished.sidecar.images)
        if targets is None or targets.ndim != 2 or len(targets) != readable:
            raise ResultsError(f"results: {shard_name(number)} has no list of explained classes.")
        return targets

    def keep(
        self,
        kept: Mapping[int, Finished[Sidecar]],
        extended: Iterable[int] = (),
        beside: Mapping[str, Path] | None = None,
    ) -> None:
        """Keep finished shards unchanged; all other shards will be written.

        Args:
            kept: the shards to keep, by number.
            extended: numbers of the finished shards that will be written again with further maps.
            beside: the folders of the files beside them to keep, by the names of the files.

        Raises:
            InputError: many finished shards would be lost.
        """
        self._kept = {number: finished.folder for number, finished in kept.items()}
        self._beside = dict(beside or {})
        self._changed = any(
            folder != self.out / RESULTS
            for folder in (*self._kept.values(), *self._beside.values())
        ) or any(self.described(one.sidecar) != one.sidecar for one in kept.values())
        if self._remote and not self.shared:
            self._check_marker(read_json(self.folder / MARKER, self.out))
        for folder in () if self.shared else self._sizes:
            self._check_discarded(folder, {*self._kept, *extended})

    def commit(self, number: int, arrays: Arrays, sidecar: Sidecar, numbers: Arrays) -> None:
        """Write a shard, its numbers and then its sidecar, which marks the shard as finished.

        Args:
            number: the number of the shard.
            arrays: arrays ``(n, ...)`` of the shard's n readable images; empty if there are none.
            sidecar: the sidecar; the run and the size of the arrays' file are added here.
            numbers: arrays of the numbers of its maps; empty if there are none.

        Raises:
            OutputError: the disk is full, or the folder cannot be written to.
        """
        self.claim()
        remove(self.folder / numbers_name(number))
        self._write(shard_name(number), arrays, sidecar, (numbers_name(number), numbers))

    def commit_beside(
        self, name: str, arrays: Arrays, sidecar: TrueSidecar | EvidenceSidecar
    ) -> None:
        """Write a file beside the shards and then its sidecar.

        Args:
            name: the name of the file of arrays.
            arrays: its arrays.
            sidecar: the sidecar; the run and the size of the arrays' file are added here.

        Raises:
            OutputError: as for ``commit``.
        """
        self.claim()
        self._beside[name] = self.folder
        self._write(name, arrays, sidecar)

    def _write(
        self,
        name: str,
        arrays: Arrays,
        sidecar: Sidecar | TrueSidecar | EvidenceSidecar,
        numbers: tuple[str, Arrays] | None = None,
    ) -> None:
        """Write a file of arrays, the named numbers of its maps if there are any, its sidecar."""
        path = self.folder / name
        record = path.with_suffix(".json")
        size = 0
        if not self._says(record, sidecar):
            remove(record)
        if arrays:
            content = packed(arrays)
            size = content.tell()
            write(path, content.getbuffer(), self.out)
            if numbers is not None:
                own = numbers[1] | {FINGERPRINT: fingerprint(content)}
                write(self.folder / numbers[0], packed(own).getbuffer(), self.out)
        write(record, _json(replace(sidecar, run=self.marker.run, bytes=size).to_json()), self.out)

    def _says(self, record: Path, sidecar: Sidecar | TrueSidecar | EvidenceSidecar) -> bool:
        """Return whether a sidecar is there that says the same; then its arrays are equal too.

        So a process that was taken for dead takes away nothing that its successor has finished.
        """
        there = read_json(record, self.out)
        own = replace(sidecar, run=self.marker.run, bytes=there.get("bytes", 0)).to_json()
        return bool(there) and _lasting(json.loads(_json(own))) == _lasting(there)

    def complete(self, manifest: Manifest) -> bool:
        """Write the manifest, which completes the results, and replace the earlier results.

        Returns:
            Whether the results differ from the earlier ones in the folder.
        """
        before = self.manifest()
        same = before is not None and replace(before, command="") == replace(manifest, command="")
        if self._claimed or self._changed or not before:
            self.claim()
            folder = self.folder  # kept, because the folder depends on whether a manifest exists
            remove_leftovers(folder, self.out)  # of workers that were killed
            write(folder / MANIFEST, _json(manifest.to_json()), self.out)
            self._prune(folder, manifest)
            if folder != self.out / RESULTS:
                self._replace_earlier()
        elif manifest != before:
            write(self.out / RESULTS / MANIFEST, _json(manifest.to_json()), self.out)
            self._prune(self.out / RESULTS, manifest)
        return not same

    def _replace_earlier(self) -> None:
        """Replace the earlier results with the complete new ones, and remove them."""
        results = self.out / RESULTS
        with reported(results):
            os.replace(results, self.out / _LAST)
            os.replace(self.out / NEXT, results)
            (self.out / REPORT).unlink(missing_ok=True)  # it shows the earlier results
        _settle(self.out)

    def claim(self) -> None:
        """Prepare the folder once: remove other runs' files, add the marker and the kept shards.

        A shared folder gets a marker if it has none, and is not touched otherwise.

        Raises:
            InputError: a shared folder is another run's.
            OutputError: as for ``commit``.
        """
        if self._claimed:
            return
        folder = self.folder
        make_folder(folder, self.out)
        if self.shared:
            self._join(folder)
        elif self._remote:
            self._take_address(folder)
        else:
            self._take(folder)
        self._claimed = True

    def _join(self, folder: Path) -> None:
        """Put up the marker, or find that of a process with the same run.

        Raises:
            InputError: the folder is another run's.
        """
        try:
            own = replace(self.marker, of_parts=True)
            create(folder / MARKER, _json(own.to_json()), self.out)
        except OutputError:
            if not is_file(folder / MARKER):
                raise
            if differing := self._differing(read_json(folder / MARKER, self.out)):
                where = named(self.out)
                raise InputError(
                    f"output: {where!r} holds the shards of a run that differs in {differing}, and "
                    "a part removes nothing. Give every part the same options and images, or "
                    "choose another folder."
                ) from None

    def _take(self, folder: Path) -> None:
        """Make a folder this run's alone."""
        with reported(folder):
            if read_json(folder / MARKER, self.out).get("run") != self.marker.run:
                for file in _own_files(folder):
                    file.unlink()
            remove_leftovers(folder, self.out)
        ours = _json(self.marker.to_json())
        if os.path.lexists(folder / MARKER):
            write(folder / MARKER, ours, self.out)
        else:
            create(folder / MARKER, ours, self.out)
        for number, source in self._kept.items():
            self._take_over(number, source, folder)
        for name, source in self._beside.items():
            for own in (name, _record(name)) if source != folder else ():
                if is_file(source / own):  # a file without arrays has only its sidecar
                    take_over(source / own, folder / own, self.out)

    def _take_address(self, folder: Path) -> None:
        """Make an address this run's, whose marker one run alone can create.

        Raises:
            InputError: it is another run's.
        """
        ours = _json(self.marker.to_json())
        try:
            create(folder / MARKER, ours, self.out)
        except OutputError:
            before = read_json(folder / MARKER, self.out)
            if not before:
                raise
            self._check_marker(before)
            own = before.get("run") == self.marker.run
            for file in (folder / MANIFEST,) if own else _own_files(folder):
                remove(file)
            write(folder / MARKER, ours, self.out)
        for number, source in self._kept.items():
            self._take_over(number, source, folder)

    def _check_marker(self, before: Record) -> None:
        """Refuse an address with results of another run, or where one may be at work.

        Raises:
            InputError: the run would replace them, or mix its shards with theirs.
        """
        differing = self._differing(before) if before else ""
        finished = before.get("run") == self.marker.run and is_file(self.folder / MANIFEST)
        if differing and not finished and not self.overwrite:
            raise InputError(
                f"output: {address_of(self.out)!r} holds the results of a run that differs in "
                f"{differing}, and that may be at work. Ask for the same to go on with them, "
                "choose another address, or pass --overwrite to replace them."
            )

    def _take_over(self, number: int, source: Path, folder: Path) -> None:
        """Link the files of a kept shard into the folder; copy them if links are not possible."""
        sidecar = self._sidecar(source, shard_name(number), Sidecar)
        if sidecar is None:
            raise ResultsError(
                f"results: {shard_name(number)} has changed meanwhile. Run 'camreport run' again."
            )
        arrays = Path(shard_name(number))
        record = arrays.with_suffix(".json")
        if source != folder and sidecar.bytes:
            take_over(source / arrays, folder / arrays, self.out)
            if is_file(source / numbers_name(number)):
                take_over(source / numbers_name(number), folder / numbers_name(number), self.out)
        described = self.described(sidecar)
        if described != sidecar:
            write(folder / record, _json(described.to_json()), self.out)
        elif source != folder:
            take_over(source / record, folder / record, self.out)

    def _prune(self, folder: Path, manifest: Manifest) -> None:
        """Remove shards with numbers beyond those of the run, and files beside that are not its."""
        count = -(-manifest.totals.images // manifest.totals.shard_length)
        stay = {own for name in self._beside for own in (name, _record(name))}
        for number, files in _shards_in(folder).items():
            for file in files:
                beside = file.name.startswith(_BESIDE)
                if number >= count or (beside and file.name not in stay):
                    remove(file)
        for file in _collages_in(folder):
            if file.name not in stay:
                remove(file)

    def _fit(self, finished: Finished[_S]) -> tuple[int, int]:
        """Return how many methods of this run a file has, and how few others."""
        wanted, has = {*self.marker.methods}, {*finished.sidecar.methods}
        return len(wanted & has), -len(has - wanted)

    def _sidecar(self, folder: Path, name: str, kind: type[_S]) -> _S | None:
        """Return the sidecar of a finished file that fits this run, if the folder has one."""
        record = _record(name)
        if record not in self._sizes[folder]:
            return None
        try:
            sidecar = kind.from_json(read_json(folder / record, self.out), record)
        except ResultsError:
            return None
        size = self._sizes[folder].get(name, 0) if sidecar.bytes else 0
        return sidecar if sidecar.run == self.marker.run and sidecar.bytes == size else None

    def _check_discarded(self, folder: Path, stay: set[int]) -> None:
        """Refuse to replace finished shards which may have taken hours: many, or those of parts.

        Raises:
            InputError: the run would replace ``max_discarded`` finished shards or more, or those of
                parts that had other settings.
        """
        count = len(_shards_in(folder).keys() - stay)
        before = read_json(folder / MARKER, self.out)
        differing = self._differing(before)
        of_parts = before.get("of_parts") is True and bool(differing)
        if not count or self.overwrite or not (of_parts or count >= self.max_discarded):
            return
        shards = "shard" if count == 1 else "shards"
        raise InputError(
            f"output: {named(self.out)!r} holds {count:,} finished {shards} of a run that differs "
            f"in {differing or 'its images'}. Ask for the same to go on with them, "
            "choose another folder, or pass --overwrite to replace them."
        )

    def _differing(self, before: Record) -> str:
        """Return what differs between a marker and this run's, in words; empty for nothing."""
        ours = json.loads(_json(self.marker.to_json()))
        settings = before.get("settings")
        settings = settings if isinstance(settings, dict) else {}
        differing = [key for key, own in ours["settings"].items() if settings.get(key) != own]
        differing += [key for key in ("methods", "inputs") if before.get(key) != ours[key]]
        if not differing and before.get("run") != ours["run"]:
            differing = ["plan"]
        return ", ".join(differing)


def _record(name: str) -> str:
    """Return the name of the sidecar of a file of arrays."""
    return Path(name).with_suffix(".json").name


def _settle(out: Path) -> None:
    """Finish the replacement of the results folder, if a run was stopped during it."""
    if address_of(out):
        return
    results, following, last = out / RESULTS, out / NEXT, out / _LAST
    with reported(results), suppress(FileNotFoundError):  # parts of a run do it at the same time
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
        for path in [*last.iterdir()]:  # files that other programs put there
            target = results / path.name
            if path.name != MARKER and not os.path.lexists(target):
                os.replace(path, target)
        with suppress(OSError):  # a file that could not be moved stays in the folder
            (last / MARKER).unlink()
            last.rmdir()


def _own_files(folder: Path) -> list[Path]:
    """Return the files of a run in a folder without the marker, the manifest first."""
    shards = [file for files in _shards_in(folder).values() for file in files]
    manifest = [folder / MANIFEST] if is_there(folder / MANIFEST) else []
    return [*manifest, *shards, *_collages_in(folder)]


def _collages_in(folder: Path) -> list[Path]:
    """Return the files of collages in a folder."""
    names = [own for name in (COLLAGES, SPARE_COLLAGES) for own in (name, _record(name))]
    return [folder / name for name in names if is_there(folder / name)]


def _shards_in(folder: Path) -> dict[int, list[Path]]:
    """Return the files of the shards in a folder, by the shards' numbers."""
    found: dict[int, list[Path]] = {}
    for name in names_in(folder):
        if match := _SHARD_FILE.fullmatch(name):
            found.setdefault(int(match[2]), []).append(folder / name)
    return found


def _looked_up(folder: Path, numbers: Collection[int]) -> dict[str, int]:
    """Return the sizes of the files of some shards in a folder, by their names."""
    found: dict[str, int] = {}
    for number in numbers:
        names = (shard_name, true_name, evidence_name, spare_name)
        for name in (of(number) for of in names):
            for own in (name, _record(name)):
                if is_file(folder / own):
                    with suppress(FileNotFoundError):
                        found[own] = (folder / own).lstat().st_size
    return found


def _lasting(record: Record) -> Record:
    """Return a record, and those in it, without what differs between two equal runs."""
    return {
        name: _lasting(value) if isinstance(value, dict) else value
        for name, value in record.items()
        if name not in ("cost", "device")
    }


def _json(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, indent=1, allow_nan=False).encode()
