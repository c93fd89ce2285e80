"""The search for inputs: the image files that files, folders, patterns and tar files lead to.

Nothing on a disk can stop a run: links are followed but never in a circle, and an input that is
not a regular file fails with a reason. Pictures made by camreport itself are never inputs. Nothing
here imports torch.
"""

import glob
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import partial
from itertools import product
from pathlib import Path, PurePath

from camreport.errors import InputError
from camreport.files import MARKER, RESULTS, address_of
from camreport.files.remote import is_address
from camreport.images.inputs import (
    READABLE_EXTENSIONS,
    TAR,
    TEXT_EXTENSIONS,
    UNREADABLE_EXTENSIONS,
    Facts,
    InputFile,
    facts_of,
    printable,
    quoted,
)
from camreport.images.remote_search import remote_files
from camreport.images.tars import is_tar, tar_members
from camreport.messages.progress import Notify

MAX_PATHS_TO_FOLDER = 100
"""Largest number of times that one folder is read because of links to it."""

MAX_LISTED = 3
"""Most folders or extensions that a note names."""

MAX_NUMBERED = 100_000
"""Most names that the numbers in one pattern give."""

_NUMBERS = re.compile(r"\{(\d+)\.\.(\d+)\}")
_RANGE = re.compile(r"\{[^{}/]*\.\.[^{}/]*\}")

_Found = tuple[tuple[str, int], PurePath, InputFile]
"""What makes a file different from all others, a folder, and the file, named relative to it."""


def find_images(
    inputs: Sequence[str | Path],
    exclude: Path | None = None,
    notify: Notify = lambda message: None,
    labelled: bool = False,
) -> list[InputFile]:
    """List the image files that files, folders, glob patterns and tar files lead to.

    Folders are read recursively in path order, linked ones included. Hidden entries, files without
    an image extension and folders of pictures made by camreport are skipped. A file given by its
    own path is an input whatever its name. Paths are kept as given, with links unresolved, so that
    two links to one file are two inputs. A tar file that is given, or that a pattern with this
    extension matches, stands for the images in it, in their order there.

    Args:
        inputs: paths or patterns.
        exclude: the report's folder; if it contains a report, its files are skipped, unless an
            input is this folder itself.
        notify: called with one sentence for each kind of skipped files.
        labelled: whether to read the class of each image in a tar file from the file beside it.

    Raises:
        InputError: an input does not exist, a tar file is compressed, or no image file was found.
    """
    skipped = _Skipped()
    search = _Search(_report_folder(exclude), skipped, labelled)
    found: dict[tuple[str, int], tuple[PurePath, InputFile]] = {}
    for given in inputs:
        address = address_of(given) if isinstance(given, Path) else ""
        for key, root, file in search.expand(address or os.fspath(given)):
            found.setdefault(key, (root, file))
    notes = skipped.notes()
    if not found:
        why = "".join(f"{_sentence(note.removeprefix('warning: '))} " for note in notes)
        raise InputError(
            f"input: expected image files, found none in {quoted(inputs)}. {why}"
            f"These are read: {' '.join(sorted(READABLE_EXTENSIONS))}"
        )
    for note in notes:
        notify(note)
    names = _unique_names([(root, file.name) for root, file in found.values()])
    return [replace(file, name=name) for (_, file), name in zip(found.values(), names, strict=True)]


@dataclass
class _Skipped:
    """Files and folders that a search skipped.

    Attributes:
        extensions: counts of the extensions of files that are no images, by input.
        own: folders of pictures made by camreport.
        circles: links that lead to folders read already.
        unreadable: the system's reasons, by folder.
    """

    extensions: dict[str, Counter[str]] = field(default_factory=dict)
    own: list[str] = field(default_factory=list)
    circles: list[str] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)

    def count(self, given: str | Path, file: str | Path) -> None:
        """Count a file without an image extension."""
        extension = printable(Path(file).suffix.lower()) or "none"
        self.extensions.setdefault(str(given), Counter())[extension] += 1

    def add_own(self, folder: str | Path) -> None:
        """Add a folder of pictures made by camreport."""
        words = quoted([folder])
        if words not in self.own:
            self.own.append(words)

    def notes(self) -> list[str]:
        """Return one sentence for each kind, without a full stop."""
        notes = [
            f"skipped: {_number(counts.total(), 'file')} without an image extension in "
            f"{quoted([given])} ({_first(sorted(counts))})"
            + (f"; '*{TAR}' reads what is in tar files" if TAR in counts else "")
            for given, counts in self.extensions.items()
        ]
        if self.own:
            notes.append(f"skipped: pictures made by camreport in {_first(sorted(self.own))}")
        if self.circles:
            circles = _first(sorted(self.circles))
            notes.append(f"skipped: links that lead to folders read already: {circles}")
        notes += [
            f"warning: the folder {folder} cannot be read ({reason})"
            for folder, reason in self.unreadable.items()
        ]
        return notes


@dataclass
class _Search:
    """One search for image files.

    Attributes:
        report: the real path of the report's folder, if it contains a report already.
        skipped: collects what is no input.
        labelled: whether to read the labels in tar files.
        paths: number of paths on which each real folder was read.
        own: whether a folder has camreport's marker or lies in one that has it.
        real: the folders' paths without links.
    """

    report: str | None
    skipped: _Skipped
    labelled: bool
    paths: Counter[str] = field(default_factory=Counter)
    own: dict[Path, bool] = field(default_factory=dict)
    real: dict[Path, str] = field(default_factory=dict)

    def expand(self, given: str) -> Iterator[_Found]:
        """Yield what an input leads to.

        Raises:
            InputError: there is nothing at the given path, or it is a compressed tar file.
        """
        if is_address(given):
            yield from self._remote(given)
        elif os.path.isdir(given):
            yield from self._folder(Path(given))
        elif os.path.lexists(given):
            yield from self._file(Path(given))
        elif numbered := _numbered(given):
            for each in numbered:
                yield from self.expand(each)
        elif "**" in Path(given).parts:
            yield from self._recursive_pattern(given)
        elif glob.has_magic(given):
            yield from self._pattern(given)
        else:
            raise InputError(
                f"input: expected a file, folder or pattern, found nothing at {quoted([given])}."
            )

    def _remote(self, given: str) -> Iterator[_Found]:
        """Yield what an address leads to."""
        skip = partial(self.skipped.count, given.rstrip("/"))
        listed = _numbered(given) or [given]
        for root, file in remote_files(listed, self.labelled, skip, self.skipped.add_own):
            yield (file.uri, file.span[0] if file.span else -1), root, file

    def _folder(self, root: Path) -> Iterator[_Found]:
        for file in self._images(root, sorted(self._walk(root))):
            yield _single(root, file)

    def _file(self, path: Path) -> Iterator[_Found]:
        if self._is_own(path.parent):
            self._skip_own(path.parent)
        elif is_tar(path.name):
            yield from self._tar(path.parent, path)
        else:
            yield _single(path.parent, path)

    def _tar(self, root: Path, path: Path) -> Iterator[_Found]:
        """Yield the images in a tar file; the tar file itself if it cannot be read at all.

        Raises:
            InputError: it is compressed.
        """
        facts = facts_of(path)
        if facts is None or not path.is_file():
            yield _single(root, path)
            return
        count = partial(self.skipped.count, path)
        try:
            with path.open("rb", buffering=0) as file:
                members = tar_members(file, facts.bytes, str(path), self.labelled, count)
        except OSError:
            yield _single(root, path)
            return
        key, name = _key(path), path.relative_to(root).as_posix()
        for at, one in enumerate(members):
            yield (
                (key, at),
                root,
                InputFile(
                    str(path),
                    f"{name}/{one.name}" if one.name else name,
                    one.span,
                    Facts(one.span[1], facts.version),
                    one.label,
                    one.problem,
                ),
            )

    def _pattern(self, given: str) -> Iterator[_Found]:
        tars = is_tar(given)
        for match in map(Path, sorted(glob.glob(given))):
            if self._leads_into_report(match, _fixed_part(given)):
                self._skip_own(Path(self.report or ""))
            elif match.is_dir():
                yield from self._folder(match)
            elif (tars and is_tar(match.name)) or list(self._images(Path(given), [match])):
                yield from self._file(match)

    def _recursive_pattern(self, given: str) -> Iterator[_Found]:
        """Match a pattern with ``**``, which glob itself follows through links in a circle."""
        parts = Path(given).parts
        first = parts.index("**")
        before, rest = Path(*parts[:first]), parts[first:]
        bases = [before] if before.is_dir() else map(Path, sorted(glob.glob(str(before))))
        for base in bases:
            for file in sorted(self._walk(base)):
                depth = _matched_depth(file.relative_to(base).parts, rest)
                inside = len(base.parts) + depth < len(file.parts)
                root = Path(*file.parts[: len(base.parts) + depth]) if inside else file.parent
                if depth and is_tar(given) and is_tar(file.name):
                    yield from self._tar(root, file)
                    continue
                for image in self._images(Path(given), [file] if depth else []):
                    yield _single(root, image)

    def _images(self, given: Path, files: Iterable[Path]) -> Iterator[Path]:
        """Yield the files with an image extension; count the others, except for texts."""
        for file in files:
            extension = file.suffix.lower()
            if extension in READABLE_EXTENSIONS | UNREADABLE_EXTENSIONS:
                yield file
            elif extension not in TEXT_EXTENSIONS:
                self.skipped.count(given, file)

    def _walk(self, root: Path) -> Iterator[Path]:
        """Yield the files in a folder and its subfolders, without hidden ones and camreport's."""
        if self._is_own(root):
            self._skip_own(root)
            return
        waiting: list[tuple[Path, tuple[str, ...]]] = [(root, ())]
        while waiting:
            folder, around = waiting.pop()
            real = self._real(folder)
            if real in around or self.paths[real] == MAX_PATHS_TO_FOLDER:
                self.skipped.circles.append(quoted([folder]))
                continue
            self.paths[real] += 1
            entries = self._entries(folder)
            if MARKER in entries or (real == self.report and folder != root):
                self._skip_own(folder)
                continue
            for name, is_folder in entries.items():
                if name.startswith("."):
                    continue
                if is_folder:
                    waiting.append((folder / name, (*around, real)))
                else:
                    yield folder / name

    def _entries(self, folder: Path) -> dict[str, bool]:
        """Return the names in a folder, and whether each is a folder."""
        try:
            with os.scandir(folder) as listed:
                return {entry.name: _is_folder(entry) for entry in listed}
        except OSError as error:
            self.skipped.unreadable[quoted([folder])] = error.strerror or "unknown reason"
            return {}

    def _is_own(self, folder: Path) -> bool:
        if folder not in self.own:
            real = Path(self._real(folder))
            self.own[folder] = any(os.path.isfile(each / MARKER) for each in (real, *real.parents))
        return self.own[folder]

    def _leads_into_report(self, match: Path, root: Path) -> bool:
        """Return whether a pattern that does not name the report's folder has led into it."""
        if self.report is None or Path(self._real(root)).is_relative_to(self.report):
            return False
        return Path(self._real(match.parent), match.name).is_relative_to(self.report)

    def _real(self, folder: Path) -> str:
        if folder not in self.real:
            self.real[folder] = os.path.realpath(folder)
        return self.real[folder]

    def _skip_own(self, folder: Path) -> None:
        self.skipped.add_own(folder)


def _single(root: Path, path: Path) -> _Found:
    """Return a file that is an input by itself."""
    file = InputFile(str(path), path.relative_to(root).as_posix(), facts=facts_of(path))
    return (_key(path), -1), root, file


def _numbered(given: str) -> list[str]:
    """Return the names that a pattern such as ``train-{000..146}.tar`` stands for; none without.

    Raises:
        InputError: they are too many, or something in braces is no range of increasing numbers.
    """
    for each in _RANGE.findall(given):
        whole = _NUMBERS.fullmatch(each)
        if not whole or int(whole[1]) > int(whole[2]):
            raise InputError(
                f"input: expected increasing numbers in braces, such as {{0..3}} or {{000..146}}, "
                f"got {each} in {quoted([given])}."
            )
    ranges = [(first, int(last)) for first, last in _NUMBERS.findall(given)]
    numbers = [range(int(first), last + 1) for first, last in ranges]
    if math.prod(map(len, numbers)) > MAX_NUMBERED:
        raise InputError(
            f"input: expected up to {MAX_NUMBERED:,} names of one pattern, got {quoted([given])}."
        )
    parts = _NUMBERS.sub("\0", given).split("\0")
    widths = [len(first) for first, _ in ranges]
    return [
        "".join(
            part + (f"{chosen[at]:0{widths[at]}d}" if at < len(chosen) else "")
            for at, part in enumerate(parts)
        )
        for chosen in (product(*numbers) if numbers else ())
    ]


def _report_folder(out: Path | None) -> str | None:
    """Return the real path of a folder that contains a report, or None."""
    if out is None or not os.path.isfile(out / RESULTS / MARKER):
        return None
    return os.path.realpath(out)


def _key(path: Path) -> str:
    """Return an absolute path that identifies an input; links to files stay unresolved."""
    if ".." in path.parts:  # after a linked folder it leads to the link's target
        return os.path.join(os.path.realpath(path.parent), path.name)
    return os.path.abspath(path)


def _fixed_part(pattern: str) -> Path:
    """Return the folder that a pattern names before its first wildcard."""
    fixed = Path(pattern)
    while glob.has_magic(str(fixed)):
        fixed = fixed.parent
    return fixed


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself
        return False


def _matched_depth(parts: Sequence[str], pattern: Sequence[str]) -> int:
    """Return how many of a path's first parts a pattern with ``**`` matches; 0 if none.

    A pattern that matches a folder matches all files in it.
    """
    return next((n for n in range(len(parts), 0, -1) if _matches(parts[:n], pattern)), 0)


def _matches(parts: Sequence[str], pattern: Sequence[str]) -> bool:
    if not pattern:
        return not parts
    if pattern[0] == "**":
        return any(_matches(parts[skipped:], pattern[1:]) for skipped in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], pattern[0]) and _matches(parts[1:], pattern[1:])


def _unique_names(found: Sequence[tuple[PurePath, str]]) -> list[str]:
    """Return printable names, prefixed by their folder and then numbered where they clash."""
    names = [printable(name) for _, name in found]
    clashes = Counter(names)
    names = [
        f"{printable(_folder_name(root))}/{name}" if clashes[name] > 1 else name
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


def _folder_name(root: PurePath) -> str:
    return Path(os.path.abspath(root)).name if isinstance(root, Path) else root.name


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _first(listed: Sequence[str]) -> str:
    more = len(listed) - MAX_LISTED
    return ", ".join(listed[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
