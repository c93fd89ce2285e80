"""Names of inputs and patterns that lead to them, for random trees of folders and files."""

import glob
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from hypothesis import given, settings
from hypothesis import strategies as st

from camreport.errors import InputError
from camreport.images.inputs import printable
from camreport.images.search import find_images

plain = st.sampled_from(["a", "b", "ab", "c.d", "é", "a b", ".h"])
odd = st.text(st.characters(blacklist_characters="/\0", blacklist_categories=("Cs",)), max_size=8)
words = plain | odd.filter(lambda word: word not in ("", ".", "..") and len(word.encode()) < 100)


def trees(names: st.SearchStrategy[str]) -> st.SearchStrategy[set[tuple[str, ...]]]:
    """Return sets of paths of image files, each as a tuple of folders and a file's name."""
    files = names.map(lambda name: f"{name}.jpg")
    paths = st.builds(lambda folders, file: (*folders, file), st.lists(names, max_size=3), files)
    return st.sets(paths, max_size=8)


@contextmanager
def written(tree: set[tuple[str, ...]]) -> Iterator[Path]:
    """Write a tree of empty files into a new folder."""
    with tempfile.TemporaryDirectory() as folder:
        for path in tree:
            file = Path(folder, "in", *path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
        Path(folder, "in").mkdir(exist_ok=True)
        yield Path(folder, "in")


def found(*inputs: str | Path) -> list[tuple[Path, str]]:
    """Return path and name of every input; none where there is nothing."""
    try:
        return [(Path(file.uri), file.name) for file in find_images(inputs)]
    except InputError:
        return []


@settings(max_examples=40)
@given(trees(words), trees(words))
def test_names_are_unique_relative_and_printable(
    first: set[tuple[str, ...]], second: set[tuple[str, ...]]
) -> None:
    with written(first) as one, written(second) as two:
        inputs = found(one, two, one)
        visible = [p for p in (*first, *second) if not any(part.startswith(".") for part in p)]
        assert len({path for path, _ in inputs}) == len(inputs) == len(visible)
        assert len({name for _, name in inputs}) == len(inputs)
        for path, name in inputs:
            assert not PurePosixPath(name).is_absolute()
            assert str(one.parent) not in name
            assert str(two.parent) not in name
            assert name == printable(name)
            assert printable(path.stem) in name


patterns = st.lists(
    st.sampled_from(["**", "*", "a", "b", "a*", "?", "*.jpg", "a.jpg", "[ab]", "*b*"]),
    min_size=1,
    max_size=4,
).filter(lambda parts: any("*" in part or "?" in part or "[" in part for part in parts))


@settings(max_examples=100)
@given(trees(plain), patterns)
def test_patterns_lead_where_pythons_glob_does(
    tree: set[tuple[str, ...]], parts: list[str]
) -> None:
    with written(tree) as root:
        pattern = str(root.joinpath(*parts))
        matched = [Path(match) for match in glob.glob(pattern, recursive=True)]
        files = {match for match in matched if match.is_file()}
        for folder in (match for match in matched if match.is_dir()):  # all images in it
            files |= set(map(Path, glob.glob(f"{folder}/**/*.jpg", recursive=True)))
        assert {path for path, _ in found(pattern)} == files


@given(st.text() | st.binary().map(lambda data: data.decode("utf-8", "surrogateescape")))
def test_printable_text_is_safe_and_stays_as_it_is(text: str) -> None:
    shown = printable(text)
    assert printable(shown) == shown
    assert len(shown) <= len(text)
    shown.encode()
    assert all(ord(c) >= 32 and not 127 <= ord(c) < 160 for c in shown)
    if text.isascii() and text.isprintable():
        assert shown == text
