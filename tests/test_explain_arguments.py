"""What ``explain`` takes: images of any number of channels, one module as the layers."""

import warnings
from pathlib import Path

import pytest
import torch
from helpers.checkout import INPUTS
from torch import Tensor, nn
from torch.testing import assert_close

import camreport
from camreport.errors import InputError, LayerError, MethodError, ModelError
from camreport.settings import Settings


def net_of(channels: int) -> nn.Sequential:
    """Return a small network for images of so many channels."""
    torch.manual_seed(4)
    return nn.Sequential(
        *(nn.Conv2d(channels, 4, 3, stride=2), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 2)),
    ).eval()


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize("layers", [None, "auto", "*", ["1"]])
def test_explain_takes_images_of_any_number_of_channels(channels: int, layers) -> None:
    net = net_of(channels)
    x = torch.randn(2, channels, 20, 20, generator=torch.Generator().manual_seed(0))
    e = camreport.explain(net, x, layers, "grad_cam", [1])
    name = next(name for name in e.layers if name in ("1", "3"))
    place = int(name) + 1
    activation = net[:place](x)
    (gradient,) = torch.autograd.grad(net[place:](activation)[:, 1].sum(), activation)
    expected = (gradient.mean((2, 3), keepdim=True) * activation).sum(1).detach()
    assert_close(e.maps["grad_cam"][name][:, 0], expected, rtol=0, atol=1e-5)


def test_explain_takes_one_module_as_its_layer() -> None:
    net, x = net_of(3), torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    alone = camreport.explain(net, x, net[1], "grad_cam", [1])
    listed = camreport.explain(net, x, [net[1]], "grad_cam", [1])
    assert list(alone.layers) == ["1"]
    assert_close(alone.maps, listed.maps, rtol=0, atol=0)


class Frozen(nn.Module):
    """A backbone whose gradient ends, by one of three ways, and a linear layer."""

    def __init__(self, way: str) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.features = nn.Sequential(nn.Conv2d(3, 5, 3, stride=2), nn.ReLU())
        self.fc = nn.Linear(5, 2)
        self.way = way

    def forward(self, x: Tensor) -> Tensor:
        """Cut the graph behind the backbone."""
        if self.way == "detach":
            f = self.features(x).detach()
        else:
            with torch.no_grad() if self.way == "no_grad" else torch.inference_mode():
                f = self.features(x)
        return self.fc(f.clone().mean((2, 3)))


@pytest.mark.parametrize("way", ["no_grad", "inference_mode", "detach"])
@pytest.mark.parametrize("layers", [None, ["features"], ["*"]])
def test_a_backbone_without_gradient_is_refused_with_the_methods_that_work(way, layers) -> None:
    net, x = Frozen(way), torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(0))
    with pytest.raises(LayerError, match=r"cuts gradients off.*detach.*score_cam"):
        camreport.explain(net, x, layers, "grad_cam", [1])
    methods = "eigen_cam,score_cam,ablation_cam,recipro_cam"
    found = camreport.explain(net, x, layers, methods, [1])
    plain = nn.Sequential(net.features, nn.AdaptiveAvgPool2d(1), nn.Flatten(), net.fc)
    expected = camreport.explain(plain, x, ["0"], methods, [1])
    for key, by_layer in expected.maps.items():
        own = next(iter(found.maps[key].values()))
        assert_close(own, by_layer["0"], rtol=0, atol=1e-5)


def export(net: nn.Module) -> torch.export.ExportedProgram:
    """Return an exported program."""
    return torch.export.export(net, (torch.zeros(1, 3, 20, 20),))


def scripted(net: nn.Module) -> nn.Module:
    """Return a TorchScript module."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against TorchScript
        return torch.jit.script(net)


def quantised() -> nn.Module:
    """Return a net with a convolution of integers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch advises against them
        return nn.Sequential(torch.ao.nn.quantized.Conv2d(3, 2, 3), nn.Flatten())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: export(net_of(3)), "got ExportedProgram. .* pass the module it was made from"),
        (lambda: export(net_of(3)).module(), "is an exported program"),
        (lambda: scripted(net_of(3)), "is a TorchScript module"),
        (lambda: nn.Sequential(scripted(nn.ReLU()), nn.Flatten()), "TorchScript module, or holds"),
        (quantised, "has quantised layers .*Conv2d.* Pass the float module"),
        (lambda: len, "got builtin_function_or_method"),
        (
            lambda: nn.Sequential(nn.LazyConv2d(2, 3), nn.Flatten()),
            "has lazy layers without weights",
        ),
        (lambda: net_of(3).to("meta"), "on the meta device"),
    ],
)
def test_models_that_cannot_be_entered_are_refused_in_one_sentence(build, message) -> None:
    x = torch.zeros(1, 3, 20, 20)
    with pytest.raises(ModelError, match=message):
        camreport.explain(build(), x)
    with pytest.raises(ModelError, match=message):
        camreport.load_model(build())


def test_run_refuses_inputs_that_are_no_files(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got NoneType\. Tensors in memory.*camreport.explain"):
        camreport.run(None, tmp_path / "out", model=net_of(3))  # type: ignore[arg-type]


def test_run_writes_to_the_home_folder_where_a_tilde_says_so(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    photograph = next(iter(sorted(INPUTS.glob("*.jpg"))))
    options = {"model": net_of(3), "methods": "grad_cam", "image_size": (32, 32)}
    camreport.run(photograph, "~/report", **options)
    assert (tmp_path / "report" / "index.html").is_file()
    assert not (tmp_path / "~").exists()


@pytest.mark.parametrize("output", [0, 1.5, ["logits"]])
def test_a_key_of_the_logits_that_is_no_text_is_refused_by_name(output: object) -> None:
    expected = r"output: expected a text, or None to find the logits, got .*output='0'"
    with pytest.raises(ModelError, match=expected):
        camreport.explain(net_of(3), torch.rand(1, 3, 20, 20), ["0"], output=output)
    with pytest.raises(ModelError, match=expected):
        Settings(output=output)


def test_early_stages_are_a_whole_number() -> None:
    with pytest.raises(MethodError, match=r"stages: expected a whole number from 0, or None"):
        camreport.explain(net_of(3), torch.rand(1, 3, 20, 20), ["0"], stages=1.5)
