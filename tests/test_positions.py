"""What has the shape of a map and is none: attention, tables, gram matrices, pooled channels."""

from collections.abc import Callable

import pytest
import torch
from helpers.checkout import INPUTS
from torch import Tensor, nn
from torch.testing import assert_close

import camreport
from camreport.errors import LayerError
from camreport.network.choose import choose_layers
from camreport.network.positions import probe_images, show_places
from camreport.network.survey import sample_image, survey
from camreport.results.reader import load_results

PHOTOGRAPH = next(iter(sorted(INPUTS.glob("*.jpg"))))
SIDE = 56  # 7 x 7 cells of 8 px


class Backbone(nn.Module):
    """Two convolutions to 7 x 7 cells, something of its own, and a linear layer."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.features = nn.Sequential(
            *(nn.Conv2d(3, 8, 4, stride=4), nn.ReLU()),
            *(nn.Conv2d(8, channels, 2, stride=2), nn.ReLU()),
        )
        self.fc = nn.Linear(channels, 2)


class OverPlaces(Backbone):
    """A non-local block: softmax as a module over (N, 49, 49)."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Conv2d(16, 16, 1) for _ in range(3))
        self.odd = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to places."""
        f = self.features(x)
        attention = self.odd(self.q(f).flatten(2).mT @ self.k(f).flatten(2))
        return self.fc(((self.v(f).flatten(2) @ attention.mT).view_as(f) + f).mean((2, 3)))


class OverChannels(Backbone):
    """A gram matrix of 16 channels, (N, 16, 16): 4 x 4 tokens by its shape."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend to channels."""
        f = self.features(x)
        attention = self.odd(f.flatten(2) @ f.flatten(2).mT)
        return self.fc(((attention @ f.flatten(2)).view_as(f) + f).mean((2, 3)))


class OverHeads(Backbone):
    """Heads of attention, (N, 2, 49, 49)."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.odd = nn.Softmax(-1)

    def forward(self, x: Tensor) -> Tensor:
        """Attend in two heads."""
        t = self.features(x).flatten(2).mT  # (N, 49, 16)
        q, k, v = self.qkv(t).view(len(t), 49, 3, 2, 8).permute(2, 0, 3, 1, 4)
        attended = self.odd(q @ k.mT / 8**0.5) @ v
        return self.fc((t + attended.transpose(1, 2).flatten(2)).mean(1))


class HeadsInTheBatch(Backbone):
    """Heads folded into the first axis, (2 N, 49, 8)."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Fold and unfold."""
        t = self.features(x).flatten(2).mT
        heads = t.reshape(len(t), 49, 2, 8).transpose(1, 2).reshape(-1, 49, 8)
        t = self.odd(heads).reshape(len(t), 2, 49, 8).transpose(1, 2).reshape(len(t), 49, 16)
        return self.fc(t.mean(1))


class PooledChannels(Backbone):
    """Channels pooled to (N, 16, 1): a square number of them."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.AdaptiveAvgPool1d(1)

    def forward(self, x: Tensor) -> Tensor:
        """Pool in one dimension."""
        return self.fc(self.odd(self.features(x).flatten(2))[..., 0])


class Table(nn.Module):
    """A learnt table that sees no image."""

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.randn(shape))

    def forward(self, count: int) -> Tensor:
        """Return it, or one for each image."""
        return self.table.expand(count, -1, -1, -1) * 1


class OneTable(Backbone):
    """A table of position biases, (1, 16, 7, 7) for every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = Table(1, 16, 7, 7)

    def forward(self, x: Tensor) -> Tensor:
        """Add the table."""
        return self.fc((self.features(x) + self.odd(1)).relu().mean((2, 3)))


class TableOfEachImage(OneTable):
    """A table of position biases that is repeated for every image."""

    def forward(self, x: Tensor) -> Tensor:
        """Add the table."""
        return self.fc((self.features(x) + self.odd(len(x))).relu().mean((2, 3)))


class OfTheBatch(Backbone):
    """Takes away the mean over the batch beside the way to the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.odd = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Use the difference so that it cancels."""
        f = self.features(x)
        mean = f.mean(0, keepdim=True)
        return self.fc((self.odd(f - mean) + mean).mean((2, 3)))


NO_MAPS = (
    *(OverPlaces, OverChannels, OverHeads, HeadsInTheBatch, PooledChannels),
    *(OneTable, TableOfEachImage, OfTheBatch),
)


def images(count: int) -> Tensor:
    """Return images of noise."""
    return torch.randn(count, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("build", NO_MAPS)
def test_auto_and_patterns_pass_over_what_is_no_map(build: Callable[[], Backbone], count) -> None:
    for layers in (None, ["*", "features.*"]):
        net, x = build().eval(), images(count)
        e = camreport.explain(net, x, layers, "grad_cam", [1])
        assert "odd" not in e.layers
        assert any(name.startswith("features") for name in e.layers)
        name = next(name for name in e.layers if name.startswith("features"))
        kept: list[Tensor] = []
        layer = net.get_submodule(e.layers[name].point)
        handle = layer.register_forward_hook(lambda _m, _i, out, kept=kept: kept.append(out))
        logits = net(x)
        handle.remove()
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
        expected = (gradient.mean((2, 3), keepdim=True) * kept[0]).sum(1)
        assert_close(e.maps["grad_cam"][name][:, 0], expected.detach(), rtol=0, atol=1e-5)


@pytest.mark.parametrize("build", NO_MAPS)
def test_a_run_refuses_what_is_no_map_by_name(build, tmp_path) -> None:
    out = tmp_path / "out"
    options = {"model": build().eval(), "image_size": (SIDE, SIDE), "methods": "grad_cam"}
    if build is PooledChannels:  # a pooling is taken on trust where it is named
        pytest.skip("named poolings are taken on trust")
    with pytest.raises(LayerError, match=r"^layer: expected a .*, but 'odd' gives .*Nearest"):
        camreport.run(PHOTOGRAPH, out, layers=["odd"], **options)
    assert not out.exists()


@pytest.mark.parametrize("build", [HeadsInTheBatch, OneTable])
def test_explain_refuses_what_has_no_axis_of_images(build) -> None:
    message = r"but 'odd' gives \(\d+, .*\) for 3 images: its first axis is not the images"
    with pytest.raises(LayerError, match=message):
        camreport.explain(build().eval(), images(3), ["odd"], "grad_cam")


class Statistics(nn.Sequential):
    """A model whose every output depends on the other images of the batch."""

    def __init__(self) -> None:
        torch.manual_seed(1)
        super().__init__(
            *(nn.Conv2d(3, 4, 4, stride=4), nn.BatchNorm2d(4, track_running_stats=False)),
            *(nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)),
        )


def test_a_model_of_batch_statistics_keeps_its_layers() -> None:
    assert list(choose_layers(Statistics().eval(), None, sample_image((32, 32)))) == ["2"]


class OneByOne(nn.Sequential):
    """A model whose code takes a single image."""

    def forward(self, x: Tensor) -> Tensor:
        """Flatten by hand."""
        return self[2](self[1](self[0](x)).view(1, 4, -1).mean(2))


def test_a_model_that_takes_single_images_only_keeps_its_layers() -> None:
    net = OneByOne(nn.Conv2d(3, 4, 4, stride=4), nn.ReLU(), nn.Linear(4, 2)).eval()
    assert list(choose_layers(net, None, sample_image((32, 32)))) == ["1"]


@pytest.mark.parametrize("size", [(4, 4), (5, 4), (7, 7), (14, 20)])
def test_a_grid_shows_places_if_its_quarters_follow_the_images(size) -> None:
    generator = torch.Generator().manual_seed(0)
    probes = probe_images(torch.randn(1, 3, 8 * size[0], 8 * size[1], generator=generator))
    cells = nn.functional.avg_pool2d(probes, 8)
    assert show_places(cells)
    assert show_places(cells + 5 * cells.mean((2, 3), keepdim=True))  # mixed globally
    assert show_places(torch.zeros_like(cells))
    assert not show_places(cells.flip(-1))
    assert not show_places(
        cells.mean((2, 3), keepdim=True) * torch.randn(size, generator=generator)
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "built", "odd"),
    [
        ("swinv2_tiny_window8_256", {"img_size": 64}, "layers.0.blocks.0.attn.cpb_mlp"),
        ("mvitv2_tiny", {"img_size": 64}, None),
        ("tnt_s_legacy_patch16_224", {"img_size": 64}, "blocks.0.attn_in"),
        ("efficientformerv2_s0", {}, "stages.2.blocks.4.token_mixer.talking_head1"),
    ],
)
def test_two_images_are_explained_at_autos_layers_of_timms_networks(name, built, odd) -> None:
    timm = pytest.importorskip("timm")
    torch.manual_seed(0)
    net = timm.create_model(name, pretrained=False, **built).eval()
    side = built.get("img_size", net.default_cfg["input_size"][1])
    x = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    calls = [c for child in survey(net, x[:1]) for c in child.inside()]
    reasons = {call.name: call.why_no_map for call in calls if call.why_no_map}
    assert odd is None or odd in reasons
    e = camreport.explain(net, x, None, "grad_cam", [3])
    assert not reasons.keys() & e.layers.keys()
    assert all(torch.isfinite(cams).all() for cams in e.maps["grad_cam"].values())


def test_a_run_over_several_images_ends_with_maps(tmp_path) -> None:
    out, options = tmp_path / "out", {"image_size": (SIDE, SIDE), "methods": "grad_cam"}
    camreport.run(INPUTS, out, model=OverHeads().eval(), layers=["*", "auto"], **options)
    assert all(image.readable for image in load_results(out).images)
