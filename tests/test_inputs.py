"""Files: what inputs lead to, what is skipped and noted, names, and bytes that can be read."""

import os
import socket
import sys
from pathlib import Path

import pytest
from helpers.checkout import INPUTS

import camreport
from camreport.cli import commands as cli
from camreport.errors import InputError
from camreport.images import search
from camreport.images.inputs import MAX_FILE_BYTES, printable, read_file
from camreport.images.search import find_images

ANY_CHARACTERS = [
    "two words.jpg",
    'it\'s "quoted".jpg',
    "<b>&amp;.jpg",
    "100%25 #1?.jpg",
    "line\nbreak.jpg",
    "back\\slash.jpg",
    "chien 🐶.jpg",
    "שלום עולם.jpg",
    "猫，狗.jpg",
    "n" * 196 + ".jpg",
]


@pytest.fixture
def album(tmp_path: Path) -> Path:
    """A folder of pictures with all that is usually lying about between them."""
    root = tmp_path / "album"
    for name in (
        *("b/two.PNG", "b/a/deep.webp", "a.jpg", "c.heic", "b/one.tiff", "ä.gif"),
        *("ATTRIBUTION.md", "notes", "b/Thumbs.db", "b/clip.mp4", "cat.jpg.txt"),
        *(".hidden.jpg", ".git/logo.png", "b/.cache/x.jpg", "b/.DS_Store"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"x")
    (root / "folder.jpg").mkdir()
    return root


IN_ALBUM = ["a.jpg", "b/a/deep.webp", "b/one.tiff", "b/two.PNG", "c.heic", "ä.gif"]


def names(*inputs: str | Path, exclude: Path | None = None) -> list[str]:
    """Return the names of what is found."""
    return [file.name for file in find_images(inputs, exclude)]


def told(*inputs: str | Path, exclude: Path | None = None) -> list[str]:
    """Return the notes on what is skipped."""
    notes: list[str] = []
    find_images(inputs, exclude, notes.append)
    return notes


def put(*paths: Path) -> None:
    """Make files, and the folders that they lie in."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def test_find_images_walks_folders_in_path_order(album: Path) -> None:
    assert names(album) == IN_ALBUM
    assert names(str(album) + "/") == IN_ALBUM
    found = find_images([album])
    assert [Path(file.uri) for file in found] == [album / name for name in IN_ALBUM]


@pytest.mark.parametrize("name", ["ATTRIBUTION.md", "notes", ".hidden.jpg", ".git/logo.png"])
def test_find_images_takes_every_file_that_is_named(album: Path, name: str) -> None:
    assert names(album / name) == [Path(name).name]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.jpg", ["a.jpg"]),
        ("*", ["a.jpg", "deep.webp", "one.tiff", "two.PNG", "c.heic", "ä.gif"]),
        ("**/*.webp", ["deep.webp"]),
        ("[ac].*", ["a.jpg", "c.heic"]),
        ("?.jpg", ["a.jpg"]),
    ],
)
def test_find_images_expands_patterns(album: Path, pattern: str, expected: list[str]) -> None:
    found = names(f"{album}/{pattern}")
    assert [name.rpartition("/")[2] for name in found] == expected


def test_find_images_takes_a_folder_as_it_is_when_it_looks_like_a_pattern(tmp_path: Path) -> None:
    put(tmp_path / "set[1]" / "deep" / "a.jpg", tmp_path / "set1" / "b.jpg")
    assert [Path(file.uri).name for file in find_images([f"{tmp_path}/set[1]/**/*.jpg"])] == [
        "a.jpg"
    ]


def test_find_images_takes_a_name_as_it_is_when_it_looks_like_a_pattern(tmp_path: Path) -> None:
    for name in ("cat[1].jpg", "cat1.jpg", "what?.jpg"):
        (tmp_path / name).write_bytes(b"x")
    assert names(tmp_path / "cat[1].jpg", tmp_path / "what?.jpg") == ["cat[1].jpg", "what?.jpg"]


@pytest.mark.parametrize("missing", ["nowhere", "album/none.jpg", "nowhere/a.jpg"])
def test_find_images_names_a_missing_input(album: Path, missing: str) -> None:
    with pytest.raises(InputError, match=missing):
        find_images([album, album.parent / missing])


def test_find_images_refuses_to_find_nothing(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("x")
    for nothing in (str(tmp_path), f"{tmp_path}/*.jpg"):
        with pytest.raises(InputError, match="found none"):
            find_images([nothing])


def test_find_images_names_a_missing_input_when_its_name_is_too_long() -> None:
    with pytest.raises(InputError, match="xxx"):
        find_images(["x" * 300])


def test_find_images_lists_a_file_once(album: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(album)
    given = [album, "a.jpg", album / "a.jpg", "./b/../a.jpg", f"{album}/*.jpg", album / "b"]
    assert names(*given) == IN_ALBUM


def test_find_images_keeps_names_unique(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("x", "y", "p/in", "q/in")]
    for folder in folders:
        (folder / "s").mkdir(parents=True)
        (folder / "s" / "cat.jpg").write_bytes(b"x")
    assert names(folders[0], folders[1]) == ["x/s/cat.jpg", "y/s/cat.jpg"]
    found = names(*folders)
    assert len(set(found)) == len(found) == 4
    assert all(name.startswith(("x/", "y/", "in/")) for name in found)
    assert all("s/cat.jpg" in name for name in found)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows forbids some of the characters")
def test_find_images_keeps_names_of_any_characters(tmp_path: Path) -> None:
    for name in ANY_CHARACTERS:
        (tmp_path / name).write_bytes(b"x")
    shown = [name.replace("\n", "\N{REPLACEMENT CHARACTER}") for name in ANY_CHARACTERS]
    assert sorted(names(tmp_path)) == sorted(shown)
    for name, said in zip(ANY_CHARACTERS, shown, strict=True):
        assert names(tmp_path / name) == [said]
        assert find_images([tmp_path / name])[0].uri == str(tmp_path / name)


@pytest.mark.skipif(sys.platform != "linux", reason="file names are Unicode there")
def test_find_images_gives_printable_names_to_bytes_that_are_no_text(tmp_path: Path) -> None:
    for name in (b"caf\xe9.jpg", b"caf\xe8.jpg"):
        Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_bytes(b"x")
    found = find_images([tmp_path])
    assert len({file.name for file in found}) == 2
    for file in found:
        assert file.name.encode()  # no surrogates: it can be written into a report
        assert "caf\N{REPLACEMENT CHARACTER}.jpg" in file.name
        assert Path(file.uri).read_bytes() == b"x"


# Links

needs_links = pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")


@needs_links
def test_linked_class_folders_and_files_keep_their_own_names(tmp_path: Path) -> None:
    data = tmp_path / "data"
    put(tmp_path / "blobs" / "cats" / "1.jpg", tmp_path / "blobs" / "5f3a")
    data.mkdir()
    (data / "cat").symlink_to(tmp_path / "blobs" / "cats")
    for folder in ("dog", "wolf"):  # as in the cache of Hugging Face: names lead to one blob
        (data / folder).mkdir()
        (data / folder / "2.jpg").symlink_to("../../blobs/5f3a")
    found = find_images([data])
    assert [file.name for file in found] == ["cat/1.jpg", "dog/2.jpg", "wolf/2.jpg"]
    assert [Path(file.uri) for file in found] == [data / file.name for file in found]
    assert [read_file(Path(file.uri)) for file in found] == [b"x"] * 3


@needs_links
@pytest.mark.parametrize("pattern", ["", "/**/*.jpg", "/**"])
def test_links_in_a_circle_end(tmp_path: Path, pattern: str) -> None:
    put(tmp_path / "a" / "1.jpg", tmp_path / "b" / "2.jpg")
    for name in ("again", "and again"):
        (tmp_path / "a" / name).symlink_to(tmp_path)
    (tmp_path / "a" / "b").symlink_to("../b")
    (tmp_path / "b" / "a").symlink_to("../a")
    given = f"{tmp_path}{pattern}"
    assert {Path(file.uri).relative_to(tmp_path).as_posix() for file in find_images([given])} == {
        *("a/1.jpg", "a/b/2.jpg", "b/2.jpg", "b/a/1.jpg")
    }
    [note] = told(given)
    assert note.startswith("skipped: links that lead to folders read already: ")
    assert "and 3 more" in note


@needs_links
def test_a_folder_that_many_links_lead_to_is_read_a_bounded_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for level in range(20):  # two ways down on each level: a million paths
        (tmp_path / str(level)).mkdir()
        for way in "ab":
            (tmp_path / str(level) / way).symlink_to(f"../{level + 1}")
    put(tmp_path / "20" / "x.jpg")
    read: list[object] = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda folder: read.append(folder) or scandir(folder))
    assert 1 <= len(find_images([tmp_path / "0"])) <= search.MAX_PATHS_TO_FOLDER
    assert len(read) <= search.MAX_PATHS_TO_FOLDER * 21


@needs_links
def test_a_file_above_a_linked_folder_is_not_its_neighbour_by_name(tmp_path: Path) -> None:
    put(tmp_path / "a.jpg", tmp_path / "far" / "a.jpg", tmp_path / "far" / "deep" / "b.jpg")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "deep")
    assert len(find_images([tmp_path / "a.jpg", f"{tmp_path}/link/../a.jpg"])) == 2


# What is no regular file


@needs_links
def test_every_entry_that_cannot_be_read_is_an_input_that_says_why(tmp_path: Path) -> None:
    put(tmp_path / "good.jpg")
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "itself.jpg").symlink_to("itself.jpg")
    (tmp_path / "device.jpg").symlink_to("/dev/zero")
    (tmp_path / "lost.jpg").symlink_to("nowhere.jpg")
    with (tmp_path / "sparse.jpg").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)
    found = find_images([tmp_path])
    assert find_images([Path(file.uri) for file in found]) == found, (
        "named one by one, they are too"
    )
    reasons = {}
    for file in found:
        try:
            read_file(Path(file.uri))
        except (InputError, OSError) as error:
            reasons[file.name] = str(error)
    assert reasons.keys() == {file.name for file in found} - {"good.jpg"}
    assert reasons["pipe.jpg"] == "not a regular file but a pipe"
    assert reasons["device.jpg"] == "not a regular file but a device"
    assert "symbolic links" in reasons["itself.jpg"]
    assert "No such file" in reasons["lost.jpg"]
    assert reasons["sparse.jpg"].startswith("too large: the file has 1.0 GiB; at most 1.0 GiB")


@needs_links
def test_nothing_that_is_no_regular_file_is_ever_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a socket's path must be short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s.jpg")
        (tmp_path / "tape.jpg").symlink_to("/dev/null")
        monkeypatch.setattr(os, "open", lambda *given: pytest.fail("opened"))
        for name, kind in (("s.jpg", "a socket"), ("tape.jpg", "a device"), (".", "a folder")):
            with pytest.raises(InputError, match=f"not a regular file but {kind}"):
                read_file(Path(name))


@needs_links
def test_read_file_does_not_wait_where_a_pipe_takes_the_files_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "a.jpg")
    os.mkfifo(tmp_path / "pipe")
    open_ = os.open
    monkeypatch.setattr(os, "open", lambda _path, flags: open_(tmp_path / "pipe", flags))
    with pytest.raises(InputError, match="a pipe"):
        read_file(tmp_path / "a.jpg")


# What is skipped, and the notes on it


def test_files_that_are_neither_images_nor_texts_are_counted(album: Path) -> None:
    assert told(album) == [
        f"skipped: 3 files without an image extension in '{album}' (.db, .mp4, none)"
    ]
    assert told(f"{album}/*.jpg") == []
    assert told(f"{album}/*") == [
        *told(album / "b"),
        f"skipped: 1 file without an image extension in '{album}/*' (none)",
    ]


def test_a_folder_that_cannot_be_read_is_named(
    album: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir = os.scandir

    def refusing(folder: Path) -> object:
        if Path(folder).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", refusing)
    assert f"warning: the folder '{album / 'b'}' cannot be read (Permission denied)" in told(album)
    with pytest.raises(InputError, match=r"The folder '.*b' cannot be read \(Permission denied\)"):
        find_images([album / "b"])


# What camreport has made itself


@pytest.fixture
def shelf(tmp_path: Path) -> Path:
    """A folder with a photograph, a report with everything, and an unpacked archive."""
    root = tmp_path / "shelf"
    put(root / "mine.jpg", root / "report" / "saved by hand.png")
    for part in ("results/photos/0.jpg", "figures/a.png", "data/tiles/00000.jpg"):
        put(root / "report" / part, root / "report" / Path(part).parts[0] / ".camreport")
    for part in ("figures/a.png", "data/thumbs/0.jpg"):
        put(root / "unpacked" / part, root / "unpacked" / Path(part).parts[0] / ".camreport")
    return root


def test_pictures_of_camreports_own_are_never_inputs(shelf: Path) -> None:
    assert names(shelf) == ["mine.jpg", "report/saved by hand.png"]
    for given in (shelf, f"{shelf}/**", f"{shelf}/**/*.*"):
        assert names(given, exclude=shelf / "report") == ["mine.jpg"]
    [note] = told(shelf)
    assert note.startswith("skipped: pictures made by camreport in '")
    assert "and 2 more" in note
    assert f"'{shelf / 'report'}'" in told(shelf, exclude=shelf / "report")[0]


@pytest.mark.parametrize(
    "given", ["report/figures", "report/results/photos", "report/figures/a.png", "*/figures/*.png"]
)
def test_pictures_of_camreports_own_are_refused_when_they_are_named(
    shelf: Path, given: str
) -> None:
    assert names(shelf / given, shelf / "mine.jpg") == ["mine.jpg"]
    with pytest.raises(InputError, match=r"Skipped: pictures made by camreport in '.*'\. These"):
        find_images([shelf / given])


def test_a_report_in_the_folder_of_its_inputs_leaves_those_alone(shelf: Path) -> None:
    for given in (shelf / "report", f"{shelf}/report/*"):
        assert names(given, exclude=shelf / "report") == ["saved by hand.png"]


def test_an_output_folder_of_something_else_is_no_reason_to_pass_over_it(album: Path) -> None:
    assert names(album, exclude=album / "b") == IN_ALBUM


def test_many_files_cost_no_look_at_each_ones_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(*(tmp_path / "in" / f"{n}.jpg" for n in range(50)), tmp_path / "out/results/.camreport")
    named = [tmp_path / "in" / f"{number}.jpg" for number in range(50)]
    calls: list[object] = []
    realpath, isfile = os.path.realpath, os.path.isfile
    monkeypatch.setattr(os.path, "realpath", lambda path: calls.append(path) or realpath(path))
    monkeypatch.setattr(os.path, "isfile", lambda path: calls.append(path) or isfile(path))
    for given in ([tmp_path / "in"], named, [f"{tmp_path}/in/*.jpg"], [f"{tmp_path}/in/**"]):
        calls.clear()
        assert len(find_images(given, exclude=tmp_path / "out")) == 50
        assert len(calls) < 30


# Names


@pytest.mark.parametrize(
    "name", ["a\x1b[2Jb.jpg", "a\rb.jpg", "a\x07b.jpg", "a\x9b2Jb.jpg", "a\u202eb.jpg", "a\x7fb"]
)
def test_printable_leaves_nothing_that_commands_a_terminal(name: str) -> None:
    said = printable(name)
    assert said.startswith("a\N{REPLACEMENT CHARACTER}")
    assert said.isprintable()


def test_a_missing_input_is_named_without_commands_for_the_terminal() -> None:
    with pytest.raises(InputError) as raised:
        find_images(["no\x1b[31mwhere"])
    assert str(raised.value).isprintable()


# A whole run


@needs_links
def test_run_keeps_other_images_when_some_are_no_regular_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "in"
    data.mkdir()
    for name in ("cat.jpg", "dog.jpg"):
        (data / name).write_bytes((INPUTS / name).read_bytes())
    (data / "half.jpg").write_bytes((INPUTS / "cat.jpg").read_bytes()[:9000])
    os.mkfifo(data / "pipe.jpg")
    (data / "itself.jpg").symlink_to("itself.jpg")
    (data / "device.jpg").symlink_to("/dev/zero")
    words = ["run", str(data), "-o", str(tmp_path / "out"), "--layers", "12"]
    monkeypatch.setattr(sys, "argv", ["camreport", *words, "--methods", "grad_cam"])
    assert cli.cli.exit_code() == 1
    said = capfd.readouterr()
    assert said.err.splitlines() == [
        "warning: 4 of 6 inputs could not be read:",
        "  device.jpg: not a regular file but a device",
        "  half.jpg: damaged or truncated: the JPEG file ends before its image does",
        "  itself.jpg: the file cannot be opened (Too many levels of symbolic links)",
        "  pipe.jpg: not a regular file but a pipe",
    ]
    assert "cat.jpg: cat 0.9" in said.out
    assert "dog.jpg: dog 0.9" in said.out


def test_a_second_run_over_a_folder_with_its_report_explains_the_same(tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes((INPUTS / "cat.jpg").read_bytes())
    for layout in ("folder", "single"):
        for _ in range(2):
            notes: list[str] = []
            summary = camreport.run(
                tmp_path,
                tmp_path / layout,
                layers=["12"],
                methods="grad_cam",
                layout=layout,
                figures=True,
                notify=notes.append,
            )
            assert summary.total == 1
    [note] = [note for note in notes if "made by camreport" in note]
    assert f"'{tmp_path / 'folder' / 'data'}'" in note
    assert f"'{tmp_path / 'folder' / 'figures'}'" in note
