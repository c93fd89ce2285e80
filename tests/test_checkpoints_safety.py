"""Weights files that want to run code: no format and no wrapper lets them, and nothing is left."""

import contextlib
import io
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from helpers.checkpoints import (
    Own,
    archive,
    assert_same_model,
    plain,
)
from helpers.pickles import EVIL, FORBIDDEN, RunsCode, UnknownToCamreport, dump, legacy
from torch import nn
from torchvision import models

from camreport.errors import ModelError
from camreport.models import load_model


def evil_in_legacy_module(evil: object, file: Path) -> None:
    """Write a whole module as before PyTorch 1.6, its classes' source code with it."""
    module = plain()
    module.register_buffer("found", torch.zeros(1))
    module.extra = evil
    legacy({"model": module}, file)


def harmless_pickle() -> bytes:
    buffer = io.BytesIO()
    torch.save({"a": 1}, buffer)
    with zipfile.ZipFile(buffer) as saved:
        return saved.read(next(name for name in saved.namelist() if name.endswith("data.pkl")))


def two_pickles(evil: object, file: Path, evil_first: bool) -> None:
    """Write two members of one name: readers of zip files differ in which they take."""
    members = [pickle.dumps(evil, 2), harmless_pickle()]
    with zipfile.ZipFile(file, "w") as written:
        for data in members if evil_first else members[::-1]:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(zipfile.ZipFile, "_writecheck", lambda *_: None)
                written.writestr("archive/data.pkl", data)
        written.writestr("archive/version", b"3\n")
        written.writestr("archive/byteorder", b"little")


def two_roots(evil: object, file: Path, root: str) -> None:
    archive(
        file,
        {
            "archive/data.pkl": harmless_pickle(),
            "archive/version": b"3\n",
            f"{root}/data.pkl": pickle.dumps(evil, 2),
        },
    )


def legacy_tar(evil: object, file: Path) -> None:
    """Write the tar file that PyTorch wrote before 0.1.10; its first bytes look like a pickle."""
    data = pickle.dumps(evil, 2)
    with tarfile.open(file, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as written:
        for name in ("\x80", "sys_info", "pickle", "storages", "tensors"):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            written.addfile(member, io.BytesIO(data))


def pickle_and_archive(evil: object, file: Path) -> None:
    """Write a pickle followed by a harmless archive: readers take it for one or the other."""
    torch.save({"a": torch.zeros(1)}, file)
    file.write_bytes(pickle.dumps(evil, 2) + file.read_bytes())


MORE_EVIL: dict[str, Callable[[object, Path], None]] = {
    **EVIL,
    "pickle 0": lambda evil, f: dump(evil, f, 0),
    "pickle 3": lambda evil, f: dump(evil, f, 3),
    "pickle 4": lambda evil, f: dump(evil, f, 4),
    "legacy whole module": evil_in_legacy_module,
    "legacy, wrapped": lambda evil, f: legacy({"model_ema": {"x": evil}}, f),
    "zip, protocol 4": lambda evil, f: torch.save({"net": evil}, f, pickle_protocol=4),
    "zip, a key": lambda evil, f: torch.save({"state_dict": [({"n": (evil,)},)]}, f),
    "TorchScript-like": lambda evil, f: archive(
        f,
        {
            "x/data.pkl": pickle.dumps({"state_dict": evil}, 2),
            "x/code/__torch__.py": b"",
            "x/constants.pkl": pickle.dumps(evil, 2),
            "x/version": b"3\n",
        },
    ),
    "TorchScript-like, constants alone": lambda evil, f: archive(
        f, {"x/constants.pkl": pickle.dumps(evil, 2), "x/version": b"3\n"}
    ),
    "two data.pkl, evil first": lambda evil, f: two_pickles(evil, f, True),
    "two data.pkl, evil last": lambda evil, f: two_pickles(evil, f, False),
    "two roots": lambda evil, f: two_roots(evil, f, "other"),
    "two roots, sorted first": lambda evil, f: two_roots(evil, f, "a"),
    "behind harmless pickles": lambda evil, f: f.write_bytes(
        pickle.dumps(0x1950A86A20F9469CFC6C, 2)
        + pickle.dumps(1001, 2)
        + pickle.dumps({"little_endian": True}, 2)
        + pickle.dumps(evil, 2)
    ),
    "tar": legacy_tar,
    "pickle and archive": pickle_and_archive,
    "Keras-like": lambda evil, f: archive(
        f,
        {
            "config.json": b"{}",
            "model.weights.h5": pickle.dumps(evil, 2),
            "archive/data.pkl": pickle.dumps(evil, 2),
            "archive/version": b"3\n",
        },
    ),
    "a partial": lambda evil, f: torch.save({"x": partial(nn.Linear, evil)}, f),
    "in a module": lambda evil, f: torch.save(_with_hook(evil), f),
}
NAMELESS = (
    "pickle 0",
    "TorchScript-like, constants alone",
    "two",
    "tar",
    "Keras",
)


def _with_hook(evil: object) -> nn.Module:
    module = plain()
    module.__dict__["_forward_hooks"][0] = evil
    return module


@pytest.mark.parametrize("way", MORE_EVIL)
def test_no_code_runs_in_any_format_or_wrapper(tmp_path: Path, as_found: None, way: str) -> None:
    file, ran = tmp_path / "evil.pth", tmp_path / "ran"
    with torch.random.fork_rng(devices=[]):
        MORE_EVIL[way](RunsCode(ran), file)
    for model in ("alexnet", "catdog-alexnet"):
        with pytest.raises(ModelError, match=r"^checkpoint: evil\.pth: ") as raised:
            load_model(model, checkpoint=file)
        assert not ran.exists()
        assert "\n" not in str(raised.value)
        if not way.startswith(NAMELESS):
            assert "refused" in str(raised.value)
            assert FORBIDDEN in str(raised.value)


def test_tar_runs_code_when_torch_reads_it_without_care(tmp_path: Path) -> None:
    legacy_tar(RunsCode(tmp_path / "ran"), tmp_path / "evil.pth")
    assert (tmp_path / "evil.pth").read_bytes()[:1] == b"\x80"
    with contextlib.suppress(Exception):
        torch.load(tmp_path / "evil.pth", weights_only=False)
    assert (tmp_path / "ran").exists(), "the file was harmless: the tests show nothing"


def test_forbidden_name_is_the_one_that_is_called(tmp_path: Path) -> None:
    for name in ("pickle 0", "pickle 3", "pickle 4", "behind harmless pickles"):
        MORE_EVIL[name](RunsCode(tmp_path / name), tmp_path / "evil.pth")
        stream = io.BytesIO((tmp_path / "evil.pth").read_bytes())
        for _ in range(4 if name.startswith("behind") else 1):
            pickle.load(stream)
        assert (tmp_path / name).exists(), "the file was harmless: the tests show nothing"


@pytest.mark.parametrize("protocol", [1, 2, 3, 4, 5])
def test_every_pickle_protocol_is_read(
    tmp_path: Path, squeezenet: nn.Module, protocol: int
) -> None:
    for number, content in enumerate([squeezenet.state_dict(), squeezenet]):
        file = tmp_path / f"{number}.pth"
        torch.save(content, file, pickle_protocol=protocol)
        loaded = load_model("squeezenet1_1", checkpoint=file)
        assert_same_model(loaded.module, squeezenet)


@pytest.mark.parametrize("trusted", [False, True])
def test_what_torch_allows_is_as_before_also_after_a_refusal(
    tmp_path: Path, as_found: None, trusted: bool
) -> None:
    torch.save(UnknownToCamreport(), tmp_path / "own.pth")
    with pytest.raises(ModelError, match=r"own\.pth"):
        load_model("alexnet", checkpoint=tmp_path / "own.pth", trust_checkpoint=trusted)


def test_allowed_classes_are_not_added_to_those_of_the_user(
    tmp_path: Path, alexnet: nn.Module
) -> None:
    with torch.serialization.safe_globals([Own]):
        before = list(torch.serialization.get_safe_globals())
        torch.save(alexnet, tmp_path / "w.pth")
        load_model(checkpoint=tmp_path / "w.pth")
        assert set(torch.serialization.get_safe_globals()) == set(before)


@pytest.mark.parametrize("name", ["resnet18", "alexnet", "efficientnet-lite0", "timm:test_resnet"])
def test_random_weights_leave_torchs_seed_alone(as_found: None, name: str) -> None:
    if name == "efficientnet-lite0":
        pytest.importorskip("efficientnet_lite_pytorch")
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    load_model(name, weights="none")


def test_checkpoint_leaves_torchs_seed_alone(
    tmp_path: Path, squeezenet: nn.Module, as_found: None
) -> None:
    torch.save(squeezenet.state_dict(), tmp_path / "w.pth")
    load_model("squeezenet1_1", checkpoint=tmp_path / "w.pth")


def test_checkpoint_of_what_cannot_be_built_without_values_leaves_torchs_seed_alone(
    tmp_path: Path,
) -> None:
    with torch.random.fork_rng(devices=[]):
        state = models.swin_t(num_classes=3).state_dict()
    torch.save(state, tmp_path / "w.pth")
    before = torch.get_rng_state()
    load_model("swin_t", checkpoint=tmp_path / "w.pth", image_size=64)
    assert torch.equal(torch.get_rng_state(), before)
