"""Weights files that claim too much or hold no weights: each is refused in one sentence."""

import io
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers.checkpoints import filled
from helpers.hostile_files import (
    PICKLES,
    archive_of,
    refused,
    tensor_of,
)
from torch import nn
from torchvision import models

from camreport.errors import ModelError
from camreport.models import load_model
from camreport.models.archives import MAX_MEMBERS
from camreport.models.pickled import MAX_OPERATIONS
from camreport.models.weights_file import MAX_FILE_BYTES, read_file, read_weights

# Sizes


def test_tensor_in_a_hand_written_pickle_is_read() -> None:
    data = archive_of(tensor_of("I2\nI2\n", "I2\nI1\n"), _0=struct.pack("<4f", 1, 2, 3, 4))
    assert torch.equal(read_weights(data), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))


@pytest.mark.parametrize(
    ("sizes", "strides", "count", "offset"),
    [
        ("I2\nI2\n", "I2\nI2\n", 4, 0),
        ("I2\nI2\n", "I2\nI1\n", 4, 1),
        ("I2\nI2\n", "I2\nI1\n", 5, 0),
        ("I2\nI2\n", "I2\nI1\n", -4, 0),
        ("I2\nI2\n", "I2\nI1\n", 4, -1),
        ("I-2\nI2\n", "I2\nI1\n", 4, 0),
        ("I2\nI2\n", "I-2\nI1\n", 4, 0),
        ("I2\nI2\n", "I2\n", 4, 0),
        ("I4611686018427387904\nI4\n", "I0\nI0\n", 4, 0),
        ("I0\nI9223372036854775807\n", "I1\nI1\n", 4, 0),
        ("I1\n" * 100, "I1\n" * 100, 4, 0),
        ("F0.5\n", "I1\n", 4, 0),
    ],
)
def test_tensor_outside_its_storage_is_refused(
    sizes: str, strides: str, count: int, offset: int
) -> None:
    data = archive_of(tensor_of(sizes, strides, count, offset), _0=bytes(16))
    assert "damaged" in refused(data)


def test_tensor_far_larger_than_what_is_stored_of_it_is_refused() -> None:
    data = archive_of(tensor_of("I1000000\nI1000000\n", "I0\nI0\n"), _0=bytes(16))
    assert "far larger than what is stored" in refused(data)


@pytest.mark.parametrize("way", PICKLES)
def test_pickle_that_asks_for_too_much_is_refused(way: str) -> None:
    said = refused(archive_of(PICKLES[way]))
    assert said.isprintable()
    assert len(said) < 1000


def test_pickle_of_very_many_operations_is_refused() -> None:
    pickle = b"\x80\x02" + b"N0" * (MAX_OPERATIONS // 2 + 1) + b"N."
    assert f"more than {MAX_OPERATIONS:,} operations" in refused(archive_of(pickle))


def test_large_places_and_deep_values_cost_nothing_where_they_are_harmless() -> None:
    assert read_weights(archive_of(b"\x80\x02}r\xff\xff\xff\x7f.")) == {}
    assert isinstance(read_weights(archive_of(b"\x80\x02)" + b"\x85" * 200_000 + b".")), tuple)


def test_dictionary_that_contains_itself_ends_in_a_sentence(tmp_path: Path) -> None:
    content: dict[str, object] = {}
    content["model"] = content
    torch.save(content, tmp_path / "self.pth")
    for model in ("alexnet", "catdog-alexnet"):
        with pytest.raises(ModelError, match=r"self\.pth: expected a state dict"):
            load_model(model, checkpoint=tmp_path / "self.pth")


def test_archive_that_was_compressed_or_overlaps_is_refused() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"\x80\x02" + bytes(10_000_000))
    assert "compressed" in refused(buffer.getvalue())


def test_archive_of_very_many_members_is_refused() -> None:
    data = archive_of(b"\x80\x02}.") + b"PK\x01\x02" * MAX_MEMBERS  # the start of an entry
    assert f"more than {MAX_MEMBERS:,} members" in refused(data)


@pytest.mark.parametrize("name", ["resnet18", "regnet_y_400mf", "timm:test_resnet", "alexnet"])
def test_vector_of_millions_instead_of_the_last_layer_is_refused(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Built first and compared then, such a last layer would take gigabytes."""
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    last = {"alexnet": "classifier.6"}.get(name, "fc")
    torch.save({f"{last}.weight": torch.zeros(3_000_000, 1)}, tmp_path / "w.pth")
    widths: list[int] = []
    init = nn.Linear.__init__

    def noted(
        self: nn.Linear, in_features: int, out_features: int, *rest: Any, **more: Any
    ) -> None:
        init(self, in_features, out_features, *rest, **more)
        widths.append(0 if self.weight.is_meta else out_features)

    monkeypatch.setattr(nn.Linear, "__init__", noted)
    with pytest.raises(ModelError, match=r"w\.pth: expected the weights of .*missing"):
        load_model(name, checkpoint=tmp_path / "w.pth")
    assert widths
    assert max(widths) < 100_000


def test_prefixes_without_end_are_not_all_taken_off(tmp_path: Path, unguessed: None) -> None:
    torch.save({"module." * 10_000 + "weight": torch.zeros(3)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: w\.pth") as raised:
        load_model("alexnet", checkpoint=tmp_path / "w.pth")
    assert len(str(raised.value)) < 3_000


# Tensors that are no weights


@pytest.mark.parametrize("dtype", [torch.complex64, torch.int64, torch.bool])
def test_weights_of_another_kind_of_number_are_read_or_refused(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    state = filled(lambda: models.squeezenet1_1(num_classes=3)).state_dict()
    torch.save({key: tensor.to(dtype) for key, tensor in state.items()}, tmp_path / "w.pth")
    if dtype.is_complex:
        with pytest.raises(ModelError, match=r"w\.pth: expected tensors of numbers.*complex64"):
            load_model("squeezenet1_1", checkpoint=tmp_path / "w.pth")
        return
    loaded = load_model("squeezenet1_1", checkpoint=tmp_path / "w.pth")
    weight = loaded.module.features[0].weight
    assert torch.equal(weight, state["features.0.weight"].to(dtype).float())


def safetensors_of(kind: str, shape: list[int], count: int) -> bytes:
    header = f'{{"w":{{"dtype":"{kind}","shape":{shape},"data_offsets":[0,{count}]}}}}'.encode()
    return len(header).to_bytes(8, "little") + header + bytes(count)


@pytest.mark.parametrize("kind", ["F4", "F6_E2M3", "F8_E8M0", "X9"])
def test_safetensors_of_values_that_torch_lacks_end_in_a_sentence(
    tmp_path: Path, kind: str
) -> None:
    count = {"F4": 4, "F6_E2M3": 6}.get(kind, 8)
    (tmp_path / "w.safetensors").write_bytes(safetensors_of(kind, [8], count))
    with pytest.raises(ModelError, match=r"^checkpoint: w\.safetensors: "):
        load_model("alexnet", checkpoint=tmp_path / "w.safetensors")


def test_safetensors_with_a_header_beyond_any_models_is_refused() -> None:
    data = (50_000_000).to_bytes(8, "little") + b"{" + bytes(100)
    assert "header of more than" in refused(data)


def test_names_from_a_file_stay_in_one_line(tmp_path: Path, unguessed: None) -> None:
    torch.save({"a\n\x1b[31mb" * 1000: torch.zeros(1)}, tmp_path / "w.pth")
    with pytest.raises(ModelError, match=r"^checkpoint: w\.pth") as raised:
        load_model("alexnet", checkpoint=tmp_path / "w.pth")
    assert str(raised.value).isprintable()
    assert len(str(raised.value)) < 3_000


# What is no file


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes with names")
def test_pipe_device_and_folder_are_no_checkpoints(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path / "pipe.pth", Path("/dev/zero"), tmp_path):
        with pytest.raises(ModelError, match="cannot be read"):
            load_model("alexnet", checkpoint=path)


def test_file_beyond_the_limit_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "large.pth").open("wb") as file:
        file.truncate(MAX_FILE_BYTES + 1)  # a hole without blocks on the disk
    with pytest.raises(ModelError, match=r"large\.pth cannot be read: expected at most"):
        read_file(tmp_path / "large.pth")
