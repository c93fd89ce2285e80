"""Results on object storage: the bytes of local ones, claims, faults, resuming, the report."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.checkout import INPUTS
from helpers.command import Command
from helpers.runs import FREE, images_computed, run, run_by_two, tiny, write_images
from helpers.storage import BUCKET, Storage, s3_server

import camreport
from camreport.errors import InputError, OutputError
from camreport.files import write
from camreport.results import writer
from camreport.results.schema import SCHEMA
from camreport.results.writer import Marker, ResultsWriter

pytestmark = pytest.mark.filterwarnings(
    "ignore::DeprecationWarning:moto", "ignore::DeprecationWarning:botocore", "ignore:unclosed"
)


@pytest.fixture(scope="module")
def storage() -> Iterator[Storage]:
    """A real S3 server."""
    with s3_server() as server:
        yield server


@pytest.fixture(autouse=True)
def _well(storage: Storage) -> None:
    storage.refuse(0, 0)


@pytest.fixture
def out(request: pytest.FixtureRequest) -> str:
    """An address that no other test writes to."""
    return f"s3://{BUCKET}/{request.node.name}"


def key(out: str) -> str:
    """Return the part of an address after the bucket."""
    return out.removeprefix(f"s3://{BUCKET}/")


def settled(name: str, content: bytes) -> object:
    """Return what two equal runs share of an object."""
    if name.endswith(".npz"):
        return content
    return {field: own for field, own in json.loads(content).items() if field not in FREE}


def test_results_on_storage_have_the_bytes_of_local_ones(
    out: str, storage: Storage, tmp_path: Path
) -> None:
    photos = write_images(tmp_path / "photos", 5)
    summary = run_by_two(photos, out)
    run_by_two(photos, tmp_path / "here")
    there = storage.objects(key(out))
    here = {
        path.relative_to(tmp_path / "here").as_posix(): path.read_bytes()
        for path in (tmp_path / "here").rglob("*")
        if path.is_file()
    }
    assert there.keys() == here.keys()
    for name in here:
        if name.startswith("results/"):
            assert settled(name, there[name]) == settled(name, here[name]), name
    results = camreport.load_results(out)
    assert (summary.total, len(results.images)) == (5, 5)
    local = camreport.load_results(tmp_path / "here")
    for mine, theirs in zip(results.maps(4), local.maps(4), strict=True):
        assert np.array_equal(mine.cam, theirs.cam)
    assert results.photo(3) == local.photo(3)


def test_objects_appear_in_the_order_in_which_they_can_be_trusted(
    out: str, storage: Storage, tmp_path: Path
) -> None:
    before = len(storage.requests)
    run_by_two(write_images(tmp_path / "photos", 3), out)
    start = f"/{BUCKET}/{key(out)}/"
    put = [
        path.removeprefix(start) for method, path in storage.requests[before:] if method == "PUT"
    ]
    assert put[0] == "results/.camreport"
    assert put[-2:] == ["results/manifest.json", "index.html"]
    shards = [name for name in put if name.startswith("results/shard")]
    assert shards == [f"results/shard-00000{n}.{kind}" for n in (0, 1) for kind in ("npz", "json")]
    assert len(put) == len({*put}), "each object is written once, as a whole"


def test_a_lost_shard_is_computed_alone_and_from_one_listing(
    out: str, storage: Storage, tmp_path: Path
) -> None:
    photos = write_images(tmp_path / "photos", 6)
    run_by_two(photos, out)
    complete = storage.objects(f"{key(out)}/results")
    for name in ("shard-000001.npz", "shard-000002.json"):
        storage.system.rm_file(f"{BUCKET}/{key(out)}/results/{name}")
    assert images_computed(photos, Path(out)) == 4
    again = storage.objects(f"{key(out)}/results")
    assert {n: c for n, c in again.items() if n.endswith(".npz")} == {
        n: c for n, c in complete.items() if n.endswith(".npz")
    }
    before = len(storage.requests)
    assert images_computed(photos, Path(out)) == 0
    changed = [path for method, path in storage.requests[before:] if method in ("PUT", "DELETE")]
    assert changed == [f"/{BUCKET}/{key(out)}/index.html"]


def test_a_write_that_raises_leaves_nothing(out: str, storage: Storage) -> None:
    from camreport.files import writing

    class FullError(Exception):
        pass

    path = Path(out) / "file"

    def fail() -> None:
        with writing(path, path.parent) as file:
            file.write(b"half")
            raise FullError

    with pytest.raises(FullError):
        fail()
    assert storage.objects(key(out)) == {}
    write(path, b"whole", path.parent)
    storage.refuse(507, 99)
    with pytest.raises(OutputError, match=r"s3://.*file' cannot be written"):
        write(path, b"other", path.parent)
    storage.refuse(0, 0)
    assert storage.objects(key(out)) == {"file": b"whole"}


@pytest.mark.parametrize("status", [403, 507])
def test_storage_that_is_denied_or_full_ends_the_run_and_the_next_one_goes_on(
    out: str, storage: Storage, tmp_path: Path, status: int
) -> None:
    photos = write_images(tmp_path / "photos", 4)
    storage.refuse(status, 99, "shard-000001")
    with pytest.raises(OutputError, match=r"shard-000001.*cannot be written"):
        run_by_two(photos, out)
    there = storage.objects(f"{key(out)}/results")
    assert "manifest.json" not in there
    assert "shard-000000.json" in there
    storage.refuse(0, 0)
    assert images_computed(photos, Path(out)) == 2


def test_a_server_that_is_busy_twice_is_asked_again(
    out: str, storage: Storage, tmp_path: Path
) -> None:
    storage.refuse(503, 2, "shard-000000")
    run_by_two(write_images(tmp_path / "photos", 2), out)
    assert "manifest.json" in storage.objects(f"{key(out)}/results")


def test_of_two_claims_of_one_address_one_is_refused(
    out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_images(tmp_path / "photos", 2)
    check, others = ResultsWriter._check_marker, []

    def late(self: ResultsWriter, before: dict[str, object]) -> None:
        """Look at the marker just before another run puts one up."""
        check(self, before)
        if not others:
            others.append(True)
            run(photos, out, tiny(), methods=("hires_cam",))

    monkeypatch.setattr(ResultsWriter, "_check_marker", late)
    model = tiny(seed=1)
    with pytest.raises(InputError, match="holds the results of a run that differs in model"):
        run(photos, out, model)
    assert camreport.load_results(out).manifest.methods == ("hires_cam",)


def test_results_of_other_settings_need_overwrite_and_lose_their_manifest_first(
    out: str, storage: Storage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = write_images(tmp_path / "photos", 3)
    run_by_two(photos, out)
    first = storage.objects(key(out))
    with pytest.raises(InputError, match=r"differs in layers.*--overwrite"):
        run_by_two(photos, out, layers=["0"])
    assert storage.objects(key(out)) == first
    removed: list[str] = []
    remove = writer.remove
    monkeypatch.setattr(writer, "remove", lambda path: removed.append(path.name) or remove(path))
    run_by_two(photos, out, layers=["0"], overwrite=True)
    assert removed[0] == "manifest.json"
    run_by_two(photos, tmp_path / "here", layers=["0"])
    second = storage.objects(f"{key(out)}/results")
    for path in (tmp_path / "here" / "results").iterdir():
        assert settled(path.name, second[path.name]) == settled(path.name, path.read_bytes()) or (
            path.name.startswith(".camreport")
        )


def test_a_further_method_is_added_to_complete_results(
    out: str, storage: Storage, tmp_path: Path
) -> None:
    photos = write_images(tmp_path / "photos", 3)
    run_by_two(photos, out, methods=("grad_cam",))
    run_by_two(photos, out)
    run_by_two(photos, tmp_path / "here")
    there = storage.objects(f"{key(out)}/results")
    for path in (tmp_path / "here" / "results").glob("*.npz"):
        assert there[path.name] == path.read_bytes()


def test_an_address_with_something_else_is_refused(out: str, storage: Storage) -> None:
    storage.system.pipe_file(f"{BUCKET}/{key(out)}/photo.jpg", b"x")
    with pytest.raises(InputError, match="1 object of something else"):
        run(INPUTS, out)
    with pytest.raises(InputError, match=r"s3:// or gs://, got 'https:"):
        run(INPUTS, "https://example.org/run")
    with pytest.raises(InputError, match="expected an address to write to"):
        run(INPUTS, "s3://no-such-bucket/run")


def test_the_report_and_its_other_forms_go_where_the_results_are(
    out: str, storage: Storage, tmp_path: Path, command: Command
) -> None:
    photos = write_images(tmp_path / "photos", 2)
    run(photos, out, layout="folder")
    first = storage.objects(key(out))
    assert {"index.html", "data/.camreport", "data/report.js"} <= first.keys()
    done = printed(command, "render", out, "--single-file")
    assert f"report: {out}/index.html" in done
    single = storage.objects(key(out))
    assert not [name for name in single if name.startswith("data/")]
    done = printed(command, "export", out, "--csv", "--figures")
    assert f"table: {out}/maps.csv" in done
    exported = storage.objects(key(out))
    shutil.copytree(written(single, tmp_path / "copy"), tmp_path / "local")
    printed(command, "export", str(tmp_path / "local"), "--csv", "--figures")
    for path in (tmp_path / "local").rglob("*"):
        name = path.relative_to(tmp_path / "local").as_posix()
        assert not path.is_file() or exported[name] == path.read_bytes(), name
    refused = command("export", out, "--zip")
    assert refused.code == 2
    assert "expected a report on this machine to pack" in refused.err


def printed(command: Command, *words: str) -> str:
    """Return what a command that ends well prints."""
    done = command(*words)
    assert done.code == 0, done.err
    return done.out


def written(objects: dict[str, bytes], folder: Path) -> Path:
    """Write objects as files."""
    for name, content in objects.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def test_processes_that_share_an_address_put_up_one_marker(out: str, storage: Storage) -> None:
    def marker(run: str) -> Marker:
        return Marker(
            schema=SCHEMA, run=run, settings={"seed": run}, methods=(), inputs="", plan={}
        )

    for _ in range(2):
        ResultsWriter(Path(out), marker("a"), shared=True, numbers=[0]).claim()
    content = storage.objects(f"{key(out)}/results")
    with pytest.raises(InputError, match=r"differs in seed, and a part removes nothing"):
        ResultsWriter(Path(out), marker("b"), shared=True, numbers=[0]).claim()
    assert content.keys() == {".camreport"}
    assert storage.objects(f"{key(out)}/results") == content


def test_parts_of_a_run_meet_on_storage(out: str, storage: Storage, tmp_path: Path) -> None:
    photos = write_images(tmp_path / "photos", 6)
    for part in ("2/2", "1/2"):
        run_by_two(photos, out, part=part)
    assert "manifest.json" not in storage.objects(f"{key(out)}/results")
    with pytest.raises(InputError, match="a part removes nothing"):
        run_by_two(photos, out, tiny(seed=1), part="1/2")
    assert images_computed(photos, Path(out)) == 0
    run_by_two(photos, tmp_path / "here")
    there = storage.objects(f"{key(out)}/results")
    for path in (tmp_path / "here" / "results").glob("*.npz"):
        assert there[path.name] == path.read_bytes()


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("s3://nobucket/run", r"'s3://nobucket/run.*Check the bucket, the keys, and AWS_ENDPOINT"),
        ("s3://", "expected a bucket, as in s3://bucket/run, got none"),
        ("https://host/run", "got 'https://host/run'"),
    ],
)
@pytest.mark.usefixtures("storage")
def test_an_address_without_a_bucket_is_named_with_what_to_do(
    address: str, told: str, tmp_path: Path
) -> None:
    with pytest.raises((InputError, OutputError), match=told):
        run(write_images(tmp_path / "photos", 1), address)
