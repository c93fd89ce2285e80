"""Image files: the files that inputs lead to, their names in a report, and their bytes.

Nothing on a disk can stop a run: links are followed but never in a circle, and an input that is
not a regular file fails with a reason. Pictures made by camreport itself are never inputs. Nothing
here imports torch.
"""

import glob
import os
import stat
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from camreport.errors import ClassError, InputError
from camreport.files import MARKER, RESULTS
from camreport.messages import message
from camreport.messages.progress import Notify

READABLE_EXTENSIONS = frozenset(
    ".jpg .jpeg .jpe .jfif .png .webp .bmp .dib .gif .tif .tiff".split()
)
"""Extensions of the formats that are decoded."""

UNREADABLE_EXTENSIONS = frozenset(".heic .heif .avif .jxl .jp2 .svg .psd .dcm".split())
"""Extensions of images that become failed inputs instead of being skipped."""

TEXT_EXTENSIONS = frozenset(".md .txt .csv .tsv .json".split())
"""Extensions of texts that often accompany photographs, such as labels: skipped without a note."""

MAX_FILE_BYTES = 2**30
"""Largest file that is read: more than an uncompressed TIFF of the largest image (89 million pixels
of four channels of 16 bits, 716 MB)."""

MAX_PATHS_TO_FOLDER = 100
"""Largest number of times that one folder is read because of links to it."""

MAX_LISTED = 3
"""Most folders or extensions that a note names."""


@dataclass(frozen=True)
class InputFile:
    """One image file: its path as given, and its unique relative name in reports."""

    path: Path
    name: str


def find_images(
    inputs: Sequence[str | Path],
    exclude: Path | None = None,
    notify: Notify = lambda message: None,
) -> list[InputFile]:
    """List the image files that files, folders and glob patterns lead to.

    Folders are read recursively in path order, linked ones included. Hidden entries, files without
    an image extension and folders of pictures made by camreport are skipped. A file given by its
    own path is an input whatever its name. Paths are kept as given, with links unresolved, so that
    two links to one file are two inputs.

    Args:
        inputs: paths or patterns.
        exclude: the report's folder; if it contains a report, its files are skipped, unless an
            input is this folder itself.
        notify: called with one sentence for each kind of skipped files.

    Raises:
        InputError: an input does not exist, or no image file was found.
    """
    skipped = _Skipped()
    search = _Search(_report_folder(exclude), skipped)
    found: dict[str, tuple[Path, Path]] = {}
    for given in inputs:
        for root, path in search.expand(str(given)):
            found.setdefault(_key(path), (root, path))
    notes = skipped.notes()
    if not found:
        why = "".join(f"{_sentence(note.removeprefix('warning: '))} " for note in notes)
        raise InputError(
            f"input: expected image files, found none in {_quoted(inputs)}. {why}"
            f"These are read: {' '.join(sorted(READABLE_EXTENSIONS))}"
        )
    for note in notes:
        notify(note)
    names = _unique_names(list(found.values()))
    return [InputFile(path, name) for (_, path), name in zip(found.values(), names, strict=True)]


def read_file(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """Return the bytes of a regular file.

    Raises:
        InputError: it is a folder, a pipe, a socket or a device, or larger than ``max_bytes``; the
            error carries a ``Message``.
        OSError: it cannot be opened or read.
    """
    _check_regular(path.stat(), max_bytes)  # before opening: to open a device can have effects
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    descriptor = os.open(path, flags)
    with open(descriptor, "rb") as file:
        facts = os.fstat(descriptor)
        _check_regular(facts, max_bytes)
        return file.read(facts.st_size)


def read_text(path: Path, expected: str) -> str:
    """Return the text of a file in UTF-8, with or without a byte order mark.

    Args:
        path: the file's path.
        expected: start of the error message: an argument and what is expected of it.

    Raises:
        ClassError: it cannot be read, or has another encoding.
    """
    try:
        return read_file(path).decode("utf-8-sig")
    except (OSError, InputError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ClassError(f"{expected}, got {_quoted([path.name])} ({reason}).") from error


def printable(name: str) -> str:
    """Return a file name that is safe in reports and terminals.

    Bytes that are not UTF-8, halves of surrogate pairs and control characters become ``�``.
    """
    try:
        text = name.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    except UnicodeEncodeError:  # half of a surrogate pair, which Windows allows
        text = name.encode("utf-8", "replace").decode("utf-8")
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(c) else c for c in text)


def _is_control(character: str) -> bool:
    """Return whether a character controls a terminal or the direction of the text after it."""
    code = ord(character)
    return code < 32 or 127 <= code < 160 or 0x202A <= code <= 0x202E or 0x2066 <= code <= 0x2069


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

    def count(self, given: Path, file: Path) -> None:
        """Count a file without an image extension."""
        extension = printable(file.suffix.lower()) or "none"
        self.extensions.setdefault(str(given), Counter())[extension] += 1

    def notes(self) -> list[str]:
        """Return one sentence for each kind, without a full stop."""
        notes = [
            f"skipped: {_number(counts.total(), 'file')} without an image extension in "
            f"{_quoted([given])} ({_first(sorted(counts))})"
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
        paths: number of paths on which each real folder was read.
        own: whether a folder has camreport's marker or lies in one that has it.
        real: the folders' paths without links.
    """

    report: str | None
    skipped: _Skipped
    paths: Counter[str] = field(default_factory=Counter)
    own: dict[Path, bool] = field(default_factory=dict)
    real: dict[Path, str] = field(default_factory=dict)

    def expand(self, given: str) -> Iterator[tuple[Path, Path]]:
        """Yield pairs of a root and a file; a file's name in the report is relative to its root.

        Raises:
            InputError: there is nothing at the given path.
        """
        if os.path.isdir(given):
            yield from self._folder(Path(given))
        elif os.path.lexists(given):
            yield from self._file(Path(given))
        elif "**" in Path(given).parts:
            yield from self._recursive_pattern(given)
        elif glob.has_magic(given):
            yield from self._pattern(given)
        else:
            raise InputError(
                f"input: expected a file, folder or pattern, found nothing at {_quoted([given])}."
            )

    def _folder(self, root: Path) -> Iterator[tuple[Path, Path]]:
        yield from ((root, file) for file in self._images(root, sorted(self._walk(root))))

    def _file(self, path: Path) -> Iterator[tuple[Path, Path]]:
        if self._is_own(path.parent):
            self._skip_own(path.parent)
        else:
            yield path.parent, path

    def _pattern(self, given: str) -> Iterator[tuple[Path, Path]]:
        for match in map(Path, sorted(glob.glob(given))):
            if self._leads_into_report(match, _fixed_part(given)):
                self._skip_own(Path(self.report or ""))
            elif match.is_dir():
                yield from self._folder(match)
            elif list(self._images(Path(given), [match])):
                yield from self._file(match)

    def _recursive_pattern(self, given: str) -> Iterator[tuple[Path, Path]]:
        """Match a pattern with ``**``, which glob itself follows through links in a circle."""
        parts = Path(given).parts
        first = parts.index("**")
        before, rest = Path(*parts[:first]), parts[first:]
        bases = [before] if before.is_dir() else map(Path, sorted(glob.glob(str(before))))
        for base in bases:
            for file in sorted(self._walk(base)):
                depth = _matched_depth(file.relative_to(base).parts, rest)
                for image in self._images(Path(given), [file] if depth else []):
                    inside = len(base.parts) + depth < len(file.parts)
                    yield (
                        Path(*file.parts[: len(base.parts) + depth]) if inside else file.parent,
                        image,
                    )

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
                self.skipped.circles.append(_quoted([folder]))
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
            self.skipped.unreadable[_quoted([folder])] = error.strerror or "unknown reason"
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
        quoted = _quoted([folder])
        if quoted not in self.skipped.own:
            self.skipped.own.append(quoted)


def _check_regular(facts: os.stat_result, max_bytes: int) -> None:
    """Refuse files without an end, files that block until another process writes, and large ones.

    Raises:
        InputError: it is not a regular file, or too large.
    """
    kinds = {
        stat.S_IFDIR: "images.a_folder",
        stat.S_IFIFO: "images.a_pipe",
        stat.S_IFSOCK: "images.a_socket",
        stat.S_IFCHR: "images.a_device",
        stat.S_IFBLK: "images.a_device",
    }
    if not stat.S_ISREG(facts.st_mode):
        kind = kinds.get(stat.S_IFMT(facts.st_mode), "images.something_else")
        raise InputError(message("images.not_regular", kind=message(kind)))
    if facts.st_size > max_bytes:
        size, limit = (f"{count / 2**30:.1f}" for count in (facts.st_size, max_bytes))
        raise InputError(message("images.file_too_large", size=size, limit=limit))


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


def _unique_names(found: Sequence[tuple[Path, Path]]) -> list[str]:
    """Return printable names, prefixed by their folder and then numbered where they clash."""
    names = [printable(path.relative_to(root).as_posix()) for root, path in found]
    clashes = Counter(names)
    names = [
        f"{printable(Path(os.path.abspath(root)).name)}/{name}" if clashes[name] > 1 else name
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


def _quoted(paths: Iterable[str | Path]) -> str:
    return ", ".join(f"'{printable(str(path))}'" for path in paths)


def _sentence(note: str) -> str:
    return f"{note[0].upper()}{note[1:]}."


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _first(listed: Sequence[str]) -> str:
    more = len(listed) - MAX_LISTED
    return ", ".join(listed[:MAX_LISTED]) + (f" and {more} more" if more > 0 else "")
