"""Weights files as they are met: odd but harmless, old, whole classifiers, and mutated ones."""

import io
import pickle
import struct
import warnings
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.checkpoints import assert_same_model, plain
from helpers.fuzz_checkpoints import fuzz, seeds, torch_attributes
from helpers.hostile_files import (
    ODD,
    PICKLES,
    Asks,
    archive_of,
    refused,
    saved,
    sets,
    tensor_of,
)
from torch import Tensor, nn
from torchvision import models

from camreport.models.weights_file import read_weights


@pytest.mark.parametrize("protocol", [2, 4])
def test_odd_but_harmless_contents_are_read_as_they_are(protocol: int) -> None:
    content = {
        "state_dict": OrderedDict(w=torch.arange(3.0)),
        "set": {1, 2},
        "frozen": frozenset({"a"}),
        "bytes": b"\x00\xff",
        "complex": 1 + 2j,
        "dtype": torch.float16,
        "tuple": (1, (2.5, None), [True, "x"]),
        "classes": {0: "cat", 1: "dog"},
        "slice": torch.arange(10)[3:6],
        "turned": torch.arange(6).reshape(2, 3).T,
        "none": torch.zeros(0, 3),
        "unsigned": torch.tensor([1, 65535], dtype=torch.uint16),
    }
    buffer = io.BytesIO()
    torch.save(content, buffer, pickle_protocol=protocol)
    read = read_weights(buffer.getvalue())
    for key in ("slice", "turned", "none", "unsigned"):
        assert torch.equal(read.pop(key), content.pop(key))
    assert torch.equal(read.pop("state_dict")["w"], content.pop("state_dict")["w"])
    assert read == content


def test_views_share_their_storage_as_they_did() -> None:
    whole = torch.arange(10.0)
    read = read_weights(saved({"whole": whole, "part": whole[2:4]}))
    read["whole"][2] = 77
    assert read["part"][0] == 77


class WithViews(pickle.Pickler):
    """Writes a tensor as very old files hold it: in a part of a storage that others share."""

    def persistent_id(self, obj: object) -> object:
        """Return the reference that stands for a storage."""
        if obj == "the storage":
            return ("storage", torch.FloatStorage, "7", "cuda:0", 10, ("8", 4, 3))
        return None


def test_old_file_with_a_view_of_a_storage_is_read() -> None:
    stream = io.BytesIO()
    for header in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
        pickle.dump(header, stream, 2)
    tensor = Asks(torch._utils._rebuild_tensor, "the storage", 1, (2,), (1,))
    WithViews(stream, 2).dump({"w": tensor})
    pickle.dump(["7"], stream, 2)
    stream.write(struct.pack("<q10f", 10, *range(10)))
    assert torch.equal(read_weights(stream.getvalue())["w"], torch.tensor([5.0, 6.0]))


def test_lists_of_torchscript_take_no_tensors_apart() -> None:
    rebuild = tensor_of("I1000\n", "I0\n").removesuffix(b".")
    pickled = b"ctorch.jit._pickle\nbuild_tensorlist\n" + rebuild + b"\x85R."
    assert "items in a Tensor" in refused(archive_of(pickled, _0=bytes(16)))


CLASSIFIERS: dict[str, Callable[[], nn.Module]] = {
    "densenet": lambda: models.DenseNet(8, (2, 2), 16, num_classes=3),
    "convnext": lambda: models.convnext_tiny(num_classes=3),
    "swin": lambda: models.swin_t(num_classes=3),
    "efficientnet": lambda: models.efficientnet_b0(num_classes=3),
    "mobilenet v2": lambda: models.mobilenet_v2(num_classes=3),
    "shufflenet": lambda: models.shufflenet_v2_x0_5(num_classes=3),
    "regnet": lambda: models.regnet_x_400mf(num_classes=3),
    "googlenet": lambda: models.googlenet(num_classes=3, init_weights=False),
    "mnasnet": lambda: models.mnasnet0_5(num_classes=3),
    "recurrent": lambda: nn.Sequential(nn.Flatten(2), nn.LSTM(64 * 64, 8, bidirectional=True)),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_whole_classifier_keeps_logits_attributes_and_names(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        module = CLASSIFIERS[name]().eval()
    loaded = read_weights(saved(module))
    images = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, found = module(images), loaded(images)
    if not isinstance(expected, Tensor):
        expected, found = expected[0], found[0]
    assert torch.equal(found, expected)
    assert repr(loaded) == repr(module)
    for part, original in zip(loaded.modules(), module.modules(), strict=True):
        assert type(part) is type(original)
        assert set(vars(part)) == set(vars(original))


def test_whole_classifier_that_was_compiled_by_torchscript_is_read() -> None:
    module = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU()).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against TorchScript
        torch.jit.script(module)  # leaves a table in each layer
    images = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(read_weights(saved(module))(images), module(images))


def test_numpy_numbers_are_still_refused_by_name() -> None:
    said = refused(saved({"accuracy": np.float64(0.9)}))
    assert "refused" in said
    assert "numpy" in said


def test_no_refused_file_changes_an_attribute_of_torch(mended: None) -> None:
    whole = [saved(change(plain())) for change, _ in ODD.values()]
    pickles = [archive_of(data) for data in PICKLES.values()]
    chains = [
        saved(sets(nn.ReLU, forward=nn.Identity())),
        saved(sets(torch.serialization._get_layout, cache=nn.ParameterDict())),
        saved(sets(Tensor, relu=nn.Identity())),
    ]
    refused(chains[0])
    before = torch_attributes()
    for data in (*whole, *pickles, *chains):
        refused(data)
    after = torch_attributes()
    assert not [name for name, value in before.items() if after.get(name) != value]
    assert "torch.nn.modules.activation.ReLU.forward" in before


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="memory is not measured")
def test_mutated_files_lead_to_nothing_but_a_sentence(tmp_path: Path) -> None:
    """The first hundreds of the files that ``fuzz_checkpoints.py`` makes by the thousand."""
    outcomes = list(fuzz(seed=20, files=200, folder=tmp_path))
    assert not [outcome for outcome in outcomes if outcome.startswith("FAILURE")]
    assert {"loaded", "refused", "said to be damaged or unfit"} == set(outcomes)


def test_fuzzed_files_load_where_they_are_not_mutated(tmp_path: Path) -> None:
    """Otherwise the run above would show nothing."""
    read = {name: read_weights(data) for name, data in seeds().items()}
    assert sum(isinstance(content, nn.Module) for content in read.values()) > 20
    assert_same_model(read["plain.pth"], read["plain.old"], 32)
