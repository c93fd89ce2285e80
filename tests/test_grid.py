"""Token and channels-last tensors: how they are read as grids, and the maps of such networks."""

from collections.abc import Callable, Sequence

import pytest
import torch
from helpers import peers, reference
from helpers.nets import toy_net
from torch import Tensor, nn
from torch.testing import assert_close
from torchvision.models.swin_transformer import SwinTransformer
from torchvision.models.vision_transformer import VisionTransformer

import camreport
from camreport.errors import LayerError
from camreport.messages import message
from camreport.network.choose import auto_layers
from camreport.network.grid import Grid, grid_of
from camreport.network.trace import LayerTrace, NotSpatialError

VIT_LAYERS = [
    "encoder.dropout",
    "encoder.layers.encoder_layer_0.ln_1",
    "encoder.layers.encoder_layer_1.ln_1",
]
SWIN_LAYERS = ["features.0", "features.1", "features.1.0.mlp", "features.2", "features.3", "norm"]


def vit(seed: int = 0) -> VisionTransformer:
    """A vision transformer of two blocks in float64: 17 tokens, a class token the first."""
    torch.manual_seed(seed)
    model = VisionTransformer(
        image_size=32,
        patch_size=8,
        num_layers=2,
        num_heads=2,
        hidden_dim=16,
        mlp_dim=32,
        num_classes=4,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)  # the head starts with zeros, and the class token
    return model.double().eval()


def swin(seed: int = 0, channels: int = 12) -> SwinTransformer:
    """A Swin of two stages in float64, channels last."""
    torch.manual_seed(seed)
    model = SwinTransformer(
        patch_size=[4, 4],
        embed_dim=channels,
        depths=[1, 1],
        num_heads=[1, 2],
        window_size=[4, 4],
        num_classes=4,
    )
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.4)
    return model.double().eval()


class Tokens(nn.Module):
    """Tokens of 4 × 4 pixels behind some that stand for no place; they mix, and are averaged."""

    def __init__(self, prefix: int, channels: int = 5) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, channels, 4, stride=4)
        self.register_buffer("first", torch.randn(1, prefix, channels))
        self.block = nn.Sequential(nn.Linear(channels, channels), nn.Tanh())
        self.head = nn.Linear(channels, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Let every token see the sum of all."""
        x = self.patches(x).flatten(2).mT
        x = self.block(torch.cat([self.first.expand(len(x), -1, -1), x], 1))
        return self.head((x * x.sum(1, keepdim=True).sigmoid()).mean(1))


class Encoded(nn.Module):
    """PyTorch's own transformer, which runs as one kernel where nobody asks for gradients."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, stride=8)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Average the tokens."""
        return self.head(self.encoder(self.patches(x).flatten(2).mT).mean(1))


def encoded() -> Encoded:
    """A transformer of two layers in float64, 16 tokens and none in front."""
    torch.manual_seed(0)
    return Encoded().double().eval()


def pictures(count: int = 3, size: tuple[int, int] = (32, 32)) -> Tensor:
    """Noise, ``(N, 3, H, W)`` in float64."""
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(7)).double()


def raw(model: nn.Module, layer: str, images: Tensor, target: int) -> tuple[Tensor, Tensor]:
    """Return what a module gives, as it is, and the gradient of the target's logit."""
    seen: list[Tensor] = []
    keep = model.get_submodule(layer).register_forward_hook(lambda _m, _i, out: seen.append(out))
    logits = model(images)
    keep.remove()
    return seen[0].detach(), torch.autograd.grad(logits[:, target].sum(), seen[0])[0]


def tokens_by_place(tokens: Tensor, height: int, width: int, prefix: int) -> Tensor:
    """Return tokens ``(N, tokens, C)`` as ``(N, C, h, w)``, one place after the other."""
    placed = torch.zeros(len(tokens), tokens.shape[2], height, width, dtype=tokens.dtype)
    for i in range(height):
        for j in range(width):
            placed[:, :, i, j] = tokens[:, prefix + i * width + j]
    return placed


def channels_by_place(values: Tensor) -> Tensor:
    """Return ``(N, h, w, C)`` as ``(N, C, h, w)``, one channel after the other."""
    return torch.stack([values[..., channel] for channel in range(values.shape[-1])], 1)


def assert_maps_equal(found: Tensor, expected: Tensor) -> None:
    """Compare maps, which are kept in float32, to a millionth of the largest value."""
    assert found.shape == expected.shape
    assert expected.abs().max() > 0
    assert_close(found.double(), expected.double(), rtol=0, atol=1e-6 * float(expected.abs().max()))


def assert_gradient_maps_match(
    model: nn.Module,
    layers: Sequence[str],
    images: Tensor,
    placed: Callable[[Tensor], Tensor],
    classes: int = 4,
) -> None:
    """Compare Grad-CAM, LayerCAM and HiResCAM of all classes with the oracles' of raw tensors."""
    methods = ("grad_cam", "layer_cam", "hires_cam")
    explained = camreport.explain(model, images, layers=layers, methods=methods, targets="all")
    for layer in layers:
        for target in range(classes):
            activation, gradient = (placed(t) for t in raw(model, layer, images, target))
            for method in methods:
                oracle = getattr(reference, method)
                maps = [oracle(a, g) for a, g in zip(activation, gradient, strict=True)]
                assert_maps_equal(explained.maps[method][layer][:, target], torch.stack(maps))


# Reading and restoring


@pytest.mark.parametrize("size", [(2, 3), (3, 2), (4, 4), (1, 5)])
@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
def test_grid_reads_tokens_row_by_row_and_restores_them(size, prefix):
    height, width = size
    tokens = torch.randn(2, prefix + height * width, 7)
    grid = Grid(size, channels_last=True, prefix=prefix)
    read = grid.read(tokens)
    assert torch.equal(read, tokens_by_place(tokens, height, width, prefix))
    assert torch.equal(grid.restore(read, tokens), tokens)
    changed = grid.restore(read + 1, tokens)
    assert torch.equal(changed[:, :prefix], tokens[:, :prefix])
    assert torch.equal(changed[:, prefix:], tokens[:, prefix:] + 1)


@pytest.mark.parametrize("size", [(2, 3), (5, 1), (4, 4)])
def test_grid_reads_channels_last_and_restores_it(size):
    values = torch.randn(2, *size, 7)
    grid = Grid(size, channels_last=True)
    read = grid.read(values)
    assert torch.equal(read, channels_by_place(values))
    assert read.is_contiguous()
    assert torch.equal(grid.restore(read, values), values)


def test_grid_leaves_channels_first_as_it_is():
    values = torch.randn(2, 7, 3, 4)
    grid = Grid((3, 4))
    assert grid.plain
    assert grid.read(values) is values
    assert grid.restore(values, torch.zeros_like(values)) is values


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (Grid((2, 3)), "own output"),
        (Grid((2, 3), channels_last=True), "own output, channels last"),
        (Grid((2, 3), channels_last=True, prefix=0), "own output, 6 tokens as 3 × 2"),
        (
            Grid((2, 3), channels_last=True, prefix=1),
            "own output, 6 tokens as 3 × 2, class token left out",
        ),
        (
            Grid((2, 3), channels_last=True, prefix=5),
            "own output, 6 tokens as 3 × 2, 5 tokens in front left out",
        ),
    ],
)
def test_grid_says_what_was_done_to_the_tensor(grid, said):
    assert str(grid.described(message("network.tensor.own"))) == said


@pytest.mark.parametrize(
    ("shape", "image", "module", "grid"),
    [
        ((8, 7, 7), (224, 224), nn.Identity(), Grid((7, 7))),
        ((8, 6, 13), (96, 200), nn.Identity(), Grid((6, 13))),
        ((8, 3, 5), (96, 96), nn.Conv2d(1, 1, 1), Grid((3, 5))),  # rather than refusing it
        ((7, 7, 80), (224, 224), nn.LayerNorm(80), Grid((7, 7), channels_last=True)),
        ((6, 13, 80), (96, 200), nn.Linear(80, 80), Grid((6, 13), channels_last=True)),
        ((196, 80), (224, 224), nn.Identity(), Grid((14, 14), True, 0)),
        ((197, 80), (224, 224), nn.Identity(), Grid((14, 14), True, 1)),
        ((198, 80), (224, 224), nn.Identity(), Grid((14, 14), True, 2)),
        ((201, 80), (224, 224), nn.Identity(), Grid((14, 14), True, 5)),
        ((1 + 6 * 12, 80), (96, 192), nn.Identity(), Grid((6, 12), True, 1)),
        ((2 + 12 * 6, 80), (192, 96), nn.Identity(), Grid((12, 6), True, 2)),
    ],
)
def test_grid_of_has_the_proportions_of_the_image(shape, image, module, grid):
    assert grid_of(torch.zeros(2, *shape), module, image) == grid


@pytest.mark.parametrize(
    ("shape", "module", "reason"),
    [
        ((10,), nn.Linear(3, 10), r"^\(10,\), without height and width$"),
        ((3, 4, 8, 8), nn.Conv3d(1, 1, 1), r"^\(3, 4, 8, 8\), without height and width$"),
        (
            (24, 80),
            nn.LayerNorm(80),
            r"^24 tokens, no grid like the image's 96 × 96, nor .*with up to 5 tokens in front",
        ),
        (
            (49, 16, 80),
            nn.Linear(80, 80),
            r"^\(49, 16, 80\), neither \(C, h, w\) nor \(h, w, C\) of a grid like the image's "
            r"96 × 96: windows, perhaps$",
        ),
    ],
)
def test_grid_of_says_why_there_is_none(shape, module, reason):
    with pytest.raises(LayerError, match=reason):
        grid_of(torch.zeros(2, *shape), module, (96, 96))


def test_grid_of_takes_channels_last_where_the_channels_are_as_many_as_rows_and_columns():
    # Swin-T at 384 px: its first stage gives 96 × 96 × 96.
    block = SwinTransformer([4, 4], 96, [2], [3], [7, 7], num_classes=2).features[1][0]
    assert grid_of(torch.zeros(1, 96, 96, 96), block, (384, 384)).channels_last
    assert grid_of(torch.zeros(1, 96, 96, 96), nn.LayerNorm(96), (384, 384)).channels_last
    assert grid_of(torch.zeros(1, 95, 95, 96), block, (380, 380)).size == (95, 95)


# LayerTrace with the image's size


@pytest.mark.parametrize("frozen", [False, True])
def test_trace_reads_tokens_and_changes_neither_logits_nor_gradients(frozen):
    model = vit().requires_grad_(not frozen)
    images = pictures(2)
    layer = "encoder.layers.encoder_layer_0"
    plain = model(images).detach()
    with LayerTrace({layer: model.get_submodule(layer)}, (32, 32)) as trace:
        logits = model(images)
        activation, grid = trace[layer], trace.grid(layer)
        (gradient,) = torch.autograd.grad(logits[:, 2].sum(), activation)
    assert_close(logits.detach(), plain)  # without gradients, attention has a fused kernel
    assert grid == Grid((4, 4), channels_last=True, prefix=1)
    expected, slope = raw(model.requires_grad_(), layer, images, 2)
    assert_close(activation.detach(), tokens_by_place(expected, 4, 4, 1))
    assert_close(gradient, tokens_by_place(slope, 4, 4, 1))


def test_trace_captures_outputs_as_they_are_without_the_size_of_the_image():
    model = swin()
    with LayerTrace({"norm": model.norm}) as trace:
        model(pictures(1))
        assert trace["norm"].shape == (1, 4, 4, 24)
    with LayerTrace({"norm": model.norm}, (32, 32)) as trace:
        model(pictures(1))
        assert trace["norm"].shape == (1, 24, 4, 4)


def test_trace_refuses_an_output_without_grid_only_when_it_is_looked_up():
    net, images = toy_net(), pictures(2, (12, 12))
    with LayerTrace({"4": net[4], "6": net[6]}, (12, 12)) as trace:
        net(images)
        assert torch.equal(trace["4"], net[:5](images))
        message = r"a spatial output, but '6' gives \(10,\), without height and width"
        for look in (trace.__getitem__, trace.grid):
            with pytest.raises(NotSpatialError, match=message) as refused:
                look("6")
            assert refused.value.name == "6"
    assert not net[6]._forward_hooks


# Maps of token models against plain autograd


@pytest.mark.parametrize("count", [1, 3])
def test_gradient_maps_of_a_vision_transformer_match_plain_autograd(count):
    def placed(tokens: Tensor) -> Tensor:
        return tokens_by_place(tokens, 4, 4, 1)

    assert_gradient_maps_match(vit(), VIT_LAYERS, pictures(count), placed)


@pytest.mark.parametrize("count", [1, 3])
def test_gradient_maps_of_a_swin_match_plain_autograd(count):
    assert_gradient_maps_match(swin(), SWIN_LAYERS, pictures(count), channels_by_place)


def test_gradient_maps_of_a_swin_match_where_channels_are_as_many_as_rows_and_columns():
    layers = ["features.1", "features.1.0.norm1", "features.3"]  # 8 × 8 × 8, then 4 × 4 × 16
    assert_gradient_maps_match(swin(channels=8), layers, pictures(2), channels_by_place)


@pytest.mark.parametrize("size", [(32, 64), (64, 32)])
def test_gradient_maps_of_a_swin_match_plain_autograd_when_images_are_not_square(size):
    assert_gradient_maps_match(swin(), SWIN_LAYERS, pictures(2, size), channels_by_place)


@pytest.mark.parametrize("prefix", [0, 1, 2, 5])
@pytest.mark.parametrize("size", [(16, 24), (24, 16)])
def test_gradient_maps_match_plain_autograd_with_tokens_in_front(prefix, size):
    torch.manual_seed(prefix)
    model = Tokens(prefix).double()

    def placed(tokens: Tensor) -> Tensor:
        return tokens_by_place(tokens, size[0] // 4, size[1] // 4, prefix)

    assert_gradient_maps_match(model, ["block.1"], pictures(2, size), placed, classes=3)


def without_class_token(tokens: Tensor) -> Tensor:
    """What users of pytorch-grad-cam pass for vision transformers."""
    return tokens[:, 1:].reshape(len(tokens), 4, 4, -1).permute(0, 3, 1, 2)


def channels_first(values: Tensor) -> Tensor:
    """What users of pytorch-grad-cam pass for Swin."""
    return values.permute(0, 3, 1, 2)


@pytest.mark.parametrize(
    ("build", "layer", "transform"),
    [
        (vit, "encoder.layers.encoder_layer_0", without_class_token),
        (vit, "encoder.layers.encoder_layer_1.ln_1", without_class_token),
        (swin, "features.1", channels_first),
        (swin, "norm", channels_first),
    ],
)
def test_grad_cam_of_token_models_matches_pytorch_grad_cam(build, layer, transform):
    grad_cam = peers.peer("pytorch_grad_cam").GradCAM
    output_target = peers.peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget
    model, images = build(), pictures(3)
    raw_maps: list[Tensor] = []
    with grad_cam(model, [model.get_submodule(layer)], reshape_transform=transform) as theirs:
        sum_up = theirs.get_cam_image

        def keep(*arguments: object) -> object:
            raw_maps.append(torch.from_numpy(result := sum_up(*arguments)).clone())
            return result

        theirs.get_cam_image = keep  # before it rectifies and scales
        theirs(images.clone(), [output_target(2)] * 3)
    ours = camreport.explain(model, images, layers=[layer], methods="grad_cam", targets=[2])
    assert_maps_equal(ours.maps["grad_cam"][layer][:, 0], raw_maps[0])


# Perturbations and activations against slow loops

PERTURBED = [
    (vit, "encoder.layers.encoder_layer_0", "tokens"),
    (vit, "encoder.layers.encoder_layer_1.ln_1", "tokens"),
    (swin, "features.1", "last"),
    (swin, "norm", "last"),
    (encoded, "encoder.layers.0.norm1", "places"),
]


def output_of(model: nn.Module, layer: str, image: Tensor) -> Tensor:
    """Return what a module gives for one image, as it is."""
    return reference.output_of(model, model.get_submodule(layer), image)


def grid_view(values: Tensor, kind: str) -> Tensor:
    """Return a view ``(h, w, C)`` of one image's raw output, without the class token."""
    tokens = values[1:] if kind == "tokens" else values
    return values if kind == "last" else tokens.view(4, 4, -1)


def changed_logits(model: nn.Module, layer: str, image: Tensor, values: Tensor) -> Tensor:
    """Return the logits of an image with a module's raw output exchanged."""
    with reference.exchanged(model.get_submodule(layer), values):
        return reference.logits_of(model, image)


@pytest.mark.parametrize(("build", "layer", "kind"), PERTURBED)
def test_ablation_cam_of_token_models_matches_a_loop_over_channels(build, layer, kind):
    model, images = build(), pictures(2)
    explained = camreport.explain(model, images, [layer], "ablation_cam", targets=[0, 3])
    for row, image in enumerate(images):
        own, logits = output_of(model, layer, image), reference.logits_of(model, image)
        view = grid_view(own, kind)
        expected = torch.zeros(2, *view.shape[:2], dtype=torch.float64)
        for channel in range(view.shape[2]):
            without = own.clone()
            grid_view(without, kind)[..., channel] = 0
            drop = logits - changed_logits(model, layer, image, without)
            expected += drop[[0, 3], None, None] * view[..., channel]
        assert_maps_equal(explained.maps["ablation_cam"][layer][row], expected)


@pytest.mark.parametrize(("build", "layer", "kind"), PERTURBED)
def test_recipro_cam_of_token_models_matches_a_loop_over_positions(build, layer, kind):
    model, images = build(), pictures(2)
    explained = camreport.explain(model, images, [layer], "recipro_cam", targets=[1, 2])
    for row, image in enumerate(images):
        own = output_of(model, layer, image)
        height, width, _ = grid_view(own, kind).shape
        expected = torch.zeros(2, height, width, dtype=torch.float64)
        for i in range(height):
            for j in range(width):
                kept = own.clone()
                grid_view(kept, kind).zero_()
                grid_view(kept, kind)[i, j] = grid_view(own, kind)[i, j]
                expected[:, i, j] = changed_logits(model, layer, image, kept)[[1, 2]]
        assert_maps_equal(explained.maps["recipro_cam"][layer][row], expected)


@pytest.mark.parametrize(("build", "layer", "kind"), PERTURBED)
def test_score_cam_of_token_models_matches_a_loop_over_masks(build, layer, kind):
    model, images = build(), pictures(2)
    explained = camreport.explain(model, images, [layer], "score_cam", targets=[1])
    for row, image in enumerate(images):
        view = grid_view(output_of(model, layer, image), kind)
        expected = torch.zeros(view.shape[:2], dtype=torch.float64)
        for channel in view.unbind(2):
            mask = reference.stretch(reference.resize(channel, (32, 32)))
            expected += reference.logits_of(model, image * mask).softmax(0)[1] * channel
        assert_maps_equal(explained.maps["score_cam"][layer][row, 0], expected)


@pytest.mark.parametrize(("build", "layer", "kind"), PERTURBED)
def test_eigen_cam_of_token_models_matches_its_reference(build, layer, kind):
    model, images = build(), pictures(2)
    explained = camreport.explain(model, images, [layer], "eigen_cam")
    for row, image in enumerate(images):
        view = grid_view(output_of(model, layer, image), kind)
        expected = reference.eigen_cam(view.permute(2, 0, 1))
        assert_maps_equal(explained.maps["eigen_cam"][layer][row, 0], expected)


@pytest.mark.parametrize(("build", "layer"), [(vit, VIT_LAYERS[-1]), (swin, "norm")])
def test_maps_of_token_models_do_not_depend_on_the_batch(build, layer):
    model, images = build(), pictures(3)
    methods = "grad_cam,layer_cam,hires_cam,score_cam,ablation_cam,recipro_cam,eigen_cam"
    together = camreport.explain(model, images, [layer], methods, targets=[0, 1])
    for row in range(3):
        alone = camreport.explain(model, images[row : row + 1], [layer], methods, targets=[0, 1])
        for method, maps in alone.maps.items():
            assert_maps_equal(together.maps[method][layer][row : row + 1], maps[layer])


# What the layers of token models mean


def test_the_norm_and_the_permute_of_a_swin_have_the_same_maps():
    explained = camreport.explain(
        swin(), pictures(2), ["norm", "permute"], "grad_cam,hires_cam,eigen_cam,ablation_cam"
    )
    for maps in explained.maps.values():
        assert_maps_equal(maps["permute"], maps["norm"])
    assert explained.shapes["norm"] == explained.shapes["permute"] == (24, 4, 4)
    assert explained.layers["norm"].tensor.worded("en") == "own output, channels last"
    assert explained.layers["permute"].tensor.worded("en") == "own output"
    assert explained.duplicates == {"permute": "norm"}


def test_the_last_block_of_a_vision_transformer_has_no_gradient_at_its_places():
    layer = "encoder.layers.encoder_layer_1"
    methods = ("grad_cam", "layer_cam", "hires_cam")
    explained = camreport.explain(vit(), pictures(2), [layer], methods, targets="all")
    assert explained.shapes[layer] == (16, 4, 4)
    for method in methods:
        assert not explained.maps[method][layer].any()
    _, gradient = raw(vit(), layer, pictures(2), 0)
    assert gradient[:, 0].any()  # all of it is at the class token


@pytest.mark.parametrize("build", [vit, swin])
def test_auto_takes_the_last_layer_of_a_token_model_that_the_logits_depend_on(build):
    model, images = build(), pictures(1)
    names = [name for name, _ in model.named_modules() if name.startswith(("encoder.", "norm"))]
    reached: list[tuple[str, Tensor]] = []
    hooks = [
        model.get_submodule(name).register_forward_hook(
            lambda _m, _i, out, name=name: (
                reached.append((name, out)) if isinstance(out, Tensor) else None
            )
        )
        for name in names
    ]
    logits = model(images)
    for hook in hooks:
        hook.remove()
    gradients = torch.autograd.grad(logits.max(), [t for _, t in reached], allow_unused=True)
    first = 1 if build is vit else 0  # the class token has a gradient, but no place
    alive = [
        name
        for (name, _), gradient in zip(reached, gradients, strict=True)
        if gradient is not None and gradient[:, first:].any()
    ]
    assert auto_layers(model, images)[-1] == alive[-1]
    explained = camreport.explain(model, images, methods="grad_cam")
    assert list(explained.layers)[-1] == alive[-1]
    assert explained.maps["grad_cam"][alive[-1]].any()


class Shortened(Tokens):
    """Its tokens become 15, which are no grid of places whatever stands in front of them."""

    def __init__(self) -> None:
        super().__init__(1)
        self.shorten = nn.Conv1d(37, 15, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Mix all tokens into 15."""
        x = self.patches(x).flatten(2).mT
        x = self.block(torch.cat([self.first.expand(len(x), -1, -1), x], 1))
        return self.head(self.shorten(x).mean(1))


def test_a_layer_that_is_no_grid_is_refused_with_the_reason_and_its_neighbours():
    message = (
        r"layer: expected a spatial output, but 'shorten' gives 15 tokens, no grid like the "
        r"image's 24 × 24, nor .*with up to 5 tokens in front of it\..*"
        r"Nearest with a grid: block\.1, block\.0, block"
    )
    with pytest.raises(LayerError, match=message):
        camreport.explain(Shortened(), pictures(1, (24, 24)).float(), ["shorten"], "grad_cam")
