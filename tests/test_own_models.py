"""Models that the user's own code builds, and weights files for them."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.checkout import INPUTS
from helpers.sources import run_of
from torch import nn
from torch.testing import assert_close

from camreport import evaluate, explain
from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.models import load_model

CAT = INPUTS / "cat.jpg"


SOURCE = '''\
"""A user's file."""
import torch
from torch import nn

from camreport.images.preprocessing import Preprocessing
from camreport.models import LoadedModel
from sibling_of_mine import CLASSES

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4), nn.BatchNorm2d(4), nn.ReLU(),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, CLASSES),
        )

    def forward(self, images):
        return self.body(images)

class Dictionary(Net):
    def forward(self, images):
        logits = super().forward(images)
        return {"scores": logits, "doubled": 2 * logits}

def build():
    torch.manual_seed(5)
    return Net()

def build_loaded():
    torch.manual_seed(5)
    return LoadedModel(
        module=Dictionary().eval(), preprocessing=Preprocessing(size=(40, 48)),
        class_names=("a", "b", "c"), name="mine", source="my disk", sha256="0" * 64,
        output="doubled",
    )

instance = build()
text = "no model"

def build_half():
    return build().half()

def build_brain():
    return build().bfloat16()

class Casting(Net):
    def forward(self, images):
        return super().forward(images.half())

def build_casting():
    return Casting().half()

def build_text():
    return text

def fails():
    return torch.zeros(2) @ torch.zeros(3)

def fails_inside_torch():
    return nn.Conv2d(3, 4, 3, groups=2)  # the user's line

def fails_in_two_lines():
    raise ValueError("Missing key(s):\\n  'a', 'b'")
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with a user's code; what it imports is forgotten afterwards."""
    folder = tmp_path / "code of mine"
    package = folder / "package_of_mine"
    package.mkdir(parents=True)
    (folder / "sibling_of_mine.py").write_text("CLASSES = 3\n")
    (folder / "net_of_mine.py").write_text(SOURCE)
    (package / "__init__.py").touch()
    (package / "nets.py").write_text(SOURCE)
    before = set(sys.modules)
    with torch.random.fork_rng(devices=[]):
        yield folder
    for name in set(sys.modules) - before:
        if name.endswith(("_of_mine", "_of_mine.nets")):
            del sys.modules[name]


def expected_net() -> nn.Module:
    """The user's network, built here."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        return nn.Sequential(
            nn.Conv2d(3, 4, 5, stride=4),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16, 3),
        ).eval()


@pytest.mark.parametrize("name", ["build", "instance"])
@pytest.mark.parametrize("where", ["file", "module"])
def test_own_code_gives_its_model(
    own: Path, monkeypatch: pytest.MonkeyPatch, where: str, name: str
) -> None:
    if where == "module":
        monkeypatch.chdir(own)
    path = list(sys.path)
    source = "package_of_mine.nets" if where == "module" else str(own / "net_of_mine.py")
    loaded = load_model(f"{source}:{name}")
    assert_close(run_of(loaded.module), run_of(expected_net()), rtol=0, atol=1e-6)
    assert not any(module.training for module in loaded.module.modules())
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    assert loaded.preprocessing == Preprocessing()
    assert str(own.parent) not in " ".join(map(str, (loaded.name, loaded.source, *loaded.notes)))
    assert any("ImageNet's is assumed" in str(note) for note in loaded.notes)
    assert sys.path == path


@pytest.mark.parametrize("name", ["build_half", "build_brain"])
def test_own_code_in_half_precision_is_explained_in_float32(own: Path, name: str) -> None:
    loaded = load_model(f"{own}/net_of_mine.py:{name}")
    before = {key: value.clone() for key, value in loaded.module.state_dict().items()}
    assert loaded.class_names == ("class 0", "class 1", "class 2")
    plain = load_model(f"{own}/net_of_mine.py:build").module
    plain.load_state_dict({key: value.float() for key, value in before.items()})
    images = torch.rand(2, 3, 40, 48)
    ours, expected = (explain(net, images, ["body.0"]) for net in (loaded.module, plain))
    assert_close(ours.logits, expected.logits)
    assert_close(ours.maps, expected.maps)
    for metric in ("learned", "effect", "order", "stability"):
        found, same = (
            evaluate(net, images, explained, metric).values[metric]["layer_cam"]["body.0"]
            for net, explained in ((loaded.module, ours), (plain, expected))
        )
        assert_close(torch.tensor(found), torch.tensor(same), equal_nan=True)
    for key, value in loaded.module.state_dict().items():
        assert value.dtype == before[key].dtype
        assert torch.equal(value, before[key])


def test_own_code_that_casts_to_half_precision_is_told_what_to_do(own: Path) -> None:
    with pytest.raises(ModelError, match=r"read as float32.*\.half\(\)"):
        load_model(f"{own}/net_of_mine.py:build_casting")


def test_own_class_is_built(own: Path) -> None:
    loaded = load_model(f"{own / 'net_of_mine.py'}:Net")
    assert type(loaded.module).__name__ == "Net"
    assert run_of(loaded.module).shape == (2, 3)


def test_own_loaded_model_keeps_what_it_says(own: Path) -> None:
    loaded = load_model(f"{own / 'net_of_mine.py'}:build_loaded")
    assert (loaded.name, loaded.class_names) == ("mine", ("a", "b", "c"))
    assert (loaded.preprocessing.size, loaded.output) == ((40, 48), "doubled")


def test_own_file_is_found_from_the_current_folder(
    own: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(own)
    assert load_model("net_of_mine.py:build").name == "net_of_mine.py:build"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nowhere_of_mine.py:build", r"^model: there is no file 'nowhere_of_mine\.py'"),
        ("nowhere_of_mine:build", r"^model: nowhere_of_mine:build fails: ModuleNotFoundError"),
        ("net_of_mine.py:biuld", r"^model: net_of_mine\.py has no 'biuld'\. Did you mean 'build'"),
        ("net_of_mine.py:zzz", r"^model: net_of_mine\.py has no 'zzz'\. It has .*Net"),
        ("package_of_mine.nets:biuld", r"has no 'biuld'\. Did you mean 'build'"),
        ("net_of_mine.py:text", r"^model: expected net_of_mine\.py:text .*Module, got str\."),
        ("net_of_mine.py:build_text", r"^model: expected net_of_mine\.py:build_text .*got str\."),
    ],
)
def test_own_code_that_is_not_there_is_named(
    own: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(own)
    path = list(sys.path)
    for checkpoint in (None, CAT):
        with pytest.raises(ModelError, match=message if checkpoint is None else message[1:]):
            load_model(name, checkpoint=checkpoint)
    assert sys.path == path


def line_of(text: str) -> int:
    """Return the number of the one line of the user's file that has a text in it."""
    (number,) = (n for n, line in enumerate(SOURCE.splitlines(), 1) if text in line)
    return number


@pytest.mark.parametrize(
    ("name", "kind", "line"),
    [
        ("fails", "RuntimeError", "torch.zeros(2) @"),
        ("fails_inside_torch", "ValueError", "the user's line"),
        ("fails_in_two_lines", "ValueError", "raise ValueError"),
    ],
)
def test_failure_of_own_code_names_file_and_line(
    own: Path, name: str, kind: str, line: str
) -> None:
    path = list(sys.path)
    with pytest.raises(ModelError, match=rf"net_of_mine\.py:{name} fails: {kind}") as raised:
        load_model(f"{own / 'net_of_mine.py'}:{name}")
    assert f"net_of_mine.py, line {line_of(line)}" in str(raised.value)
    assert "\n" not in str(raised.value), "one line"
    assert sys.path == path


def test_failure_while_own_code_is_imported_names_file_and_line(own: Path) -> None:
    (own / "sibling_of_mine.py").write_text("CLASSES = 3\n\n1 / 0\n")
    with pytest.raises(
        ModelError, match=r"ZeroDivisionError: .*\(sibling_of_mine\.py, line 3"
    ) as raised:
        load_model(f"{own / 'net_of_mine.py'}:build")
    assert "\n" not in str(raised.value)
    assert str(own) not in sys.path


def test_own_code_that_is_no_python_is_named(own: Path) -> None:
    (own / "broken_of_mine.py").write_text("def build(:\n    pass\n")
    with pytest.raises(ModelError, match=r"SyntaxError: .*broken_of_mine\.py, line 1"):
        load_model(f"{own / 'broken_of_mine.py'}:build")


def test_own_file_may_have_the_name_of_another_module(own: Path) -> None:
    import colorsys

    (own / "colorsys.py").write_text((own / "net_of_mine.py").read_text())
    try:
        assert run_of(load_model(f"{own / 'colorsys.py'}:build").module).shape == (2, 3)
        found = sys.modules["colorsys"]
    finally:
        sys.modules["colorsys"] = colorsys
    assert found is colorsys, "what others import by that name is as before"


def test_checkpoint_goes_into_own_code(own: Path, tmp_path: Path) -> None:
    original = expected_net()
    with torch.no_grad():
        original[0].weight.mul_(-1.5)
    state = {f"body.{key}": tensor for key, tensor in original.state_dict().items()}
    torch.save({"model": state, "epoch": 2}, tmp_path / "w.pth")
    loaded = load_model(f"{own / 'net_of_mine.py'}:build", checkpoint=tmp_path / "w.pth")
    assert_close(run_of(loaded.module), run_of(original), rtol=0, atol=1e-6)
    assert loaded.name == "net_of_mine.py:build"
    assert len(loaded.class_names) == 3
    assert not any(module.training for module in loaded.module.modules())


def test_checkpoint_of_other_classes_is_refused_by_own_code(own: Path, tmp_path: Path) -> None:
    state = {f"body.{key}": tensor for key, tensor in expected_net().state_dict().items()}
    state["body.5.weight"], state["body.5.bias"] = torch.zeros(7, 16), torch.zeros(7)
    torch.save(state, tmp_path / "seven.pth")
    with pytest.raises(
        ModelError, match=r"^checkpoint: seven\.pth: .*body\.5\.weight \(7, 16\) instead of \(3, 16"
    ):
        load_model(f"{own / 'net_of_mine.py'}:build", checkpoint=tmp_path / "seven.pth")


def test_own_loaded_model_keeps_what_it_says_with_a_checkpoint(own: Path, tmp_path: Path) -> None:
    state = {f"body.{key}": tensor for key, tensor in expected_net().state_dict().items()}
    torch.save(state, tmp_path / "w.pth")
    name = f"{own / 'net_of_mine.py'}:build_loaded"
    loaded = load_model(name, checkpoint=tmp_path / "w.pth")
    assert loaded.preprocessing.size == (40, 48)
    assert loaded.class_names == ("a", "b", "c")
    assert loaded.output == "doubled"
    assert "ImageNet" not in " ".join(map(str, loaded.notes))
