"""Every family of torchvision's classifiers, end to end, with random weights at its own layers."""

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import wraps
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from helpers.inputs import inputs_of
from PIL import Image
from torch import Tensor, nn
from torchvision.models import MaxVit, VisionTransformer, get_model_builder

import camreport
from camreport.models import LoadedModel, load_model
from camreport.models.loaded import RANDOM
from camreport.network.address import resolve_layer
from camreport.results.reader import load_results

METHODS = ("grad_cam", "layer_cam")


@dataclass(frozen=True)
class Family:
    """One family and what its layers are expected to be.

    Attributes:
        model: its smallest member.
        size: of the image, in pixels.
        stages: modules whose children run one after the other, or single modules; the last of
            each resolution among them is a layer, unless ``layers`` says which.
        layers: where poolings end stages.
        channels_last: up to the layer of this name, and there.
        smaller: what builds it, where its smallest member is large: the class with fewer and
            narrower blocks, for images of ``size``.
    """

    model: str
    size: int
    stages: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()
    channels_last: bool = False
    smaller: Callable[..., nn.Module] | None = field(default=None, repr=False)


def vision_transformer(num_classes: int) -> VisionTransformer:
    return VisionTransformer(64, 16, 3, 4, 32, 64, num_classes=num_classes)


def maxvit(num_classes: int) -> MaxVit:
    narrow = {"stem_channels": 8, "block_channels": [8, 16, 24, 32], "head_dim": 8}
    return MaxVit(
        (224, 224),
        partition_size=7,
        block_layers=[1, 1, 2, 1],
        stochastic_depth_prob=0.2,
        num_classes=num_classes,
        **narrow,
    )


FAMILIES = [
    Family("alexnet", 96, layers=tuple(f"features.{index}" for index in (0, 3, 6, 9, 12))),
    Family("vgg16", 64, layers=tuple(f"features.{index}" for index in (4, 9, 16, 23, 30))),
    Family("resnet18", 64, layers=("layer1", "layer2", "layer3", "layer4")),
    Family("resnext50_32x4d", 64, layers=("layer1", "layer2", "layer3", "layer4")),
    Family(
        "densenet121",
        64,
        layers=(*(f"features.denseblock{stage}" for stage in (1, 2, 3)), "features.norm5"),
    ),
    # Where later tensors have a pooling's resolution, the stage is what is in front of the pooling.
    Family("googlenet", 64, layers=("conv3", "inception3b", "inception4e", "inception5b")),
    Family(
        "inception_v3",
        107,
        layers=("Conv2d_3b_1x1", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
    ),
    Family("squeezenet1_1", 64, layers=("features.4", "features.7", "classifier.2")),
    Family("mobilenet_v2", 64, stages=("features",)),
    Family("mobilenet_v3_small", 64, stages=("features",)),
    Family("shufflenet_v2_x0_5", 64, layers=("maxpool", "stage2", "stage3", "conv5")),
    Family("efficientnet_b0", 64, stages=("features",)),
    Family("efficientnet_v2_s", 64, stages=("features",)),
    Family("regnet_y_400mf", 64, stages=("stem", "trunk_output")),
    Family("convnext_tiny", 64, stages=("features",)),
    Family("mnasnet0_5", 64, stages=("layers",)),
    Family(
        "vit_b_16",
        64,
        layers=("encoder.layers.encoder_layer_2.ln_1",),
        smaller=vision_transformer,
    ),
    Family("swin_t", 64, stages=("features", "norm"), channels_last=True),
    Family("swin_v2_t", 64, stages=("features", "norm"), channels_last=True),
    Family("maxvit_t", 224, stages=("stem", "blocks"), smaller=maxvit),
]


def names_of_stages(module: nn.Module, stages: tuple[str, ...]) -> list[str]:
    """Return the stages by name: containers by their children, others as they are."""
    names: list[str] = []
    for stage in stages:
        part = module.get_submodule(stage)
        container = isinstance(part, nn.ModuleList) or type(part) is nn.Sequential
        split = container and stage != "stem"
        names += [f"{stage}.{child}" for child, _ in part.named_children()] if split else [stage]
    return names


def shapes_of(module: nn.Module, image: Tensor, names: list[str]) -> dict[str, tuple[int, ...]]:
    """Return what modules give for one image, by plain hooks, in the order of running."""
    shapes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Callable[..., None]:
        def keep(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            shapes[name] = tuple(output.shape[1:])

        return keep

    with ExitStack() as hooks, torch.no_grad():
        for name in names:
            handle = module.get_submodule(name).register_forward_hook(note(name))
            hooks.callback(handle.remove)
        module(image)
    return shapes


def as_grid(shape: tuple[int, ...], family: Family) -> tuple[int, ...]:
    """Return a module's output shape as ``(C, h, w)``."""
    if len(shape) == 2:  # tokens, one of them for the class
        side = round((shape[0] - 1) ** 0.5)
        assert side * side == shape[0] - 1
        return (shape[1], side, side)
    return (shape[2], *shape[:2]) if family.channels_last else shape


def expected_layers(family: Family, loaded: LoadedModel, image: Tensor) -> list[str]:
    """Return the last stage of each resolution above 1 × 1, or what the family says."""
    if family.layers:
        return list(family.layers)
    names = names_of_stages(loaded.module, family.stages)
    last: dict[tuple[int, ...], str] = {}
    for name, shape in shapes_of(loaded.module, image, names).items():
        grid = as_grid(shape, family)[1:]
        last.pop(grid, None)
        last[grid] = name
    last.pop((1, 1), None)
    return list(last.values())[-5:]


def state_of(module: nn.Module) -> list[object]:
    """Return all of a model that a run may not change, but for its tensors' values."""
    hooks = [
        len(value)
        for part in module.modules()
        for name, value in vars(part).items()
        if name.endswith("_hooks")
    ]
    parameters = [(p.requires_grad, p.grad is None, id(p)) for p in module.parameters()]
    return [[part.training for part in module.modules()], parameters, hooks]


@pytest.fixture(scope="module")
def photograph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photograph of no thing: soft spots of colour."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    file = tmp_path_factory.mktemp("photograph") / "spots.png"
    Image.fromarray(coarse).resize((160, 120), Image.Resampling.BICUBIC).save(file)
    return file


def build_smaller(family: Family, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have torchvision build a family's smaller model under the name of its smallest member."""
    usual = get_model_builder(family.model)

    @wraps(usual)
    def builder(*, weights: None, num_classes: int) -> nn.Module:
        assert family.smaller is not None
        return family.smaller(num_classes)

    monkeypatch.setitem(torchvision.models._api.BUILTIN_MODELS, family.model, builder)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.model)
def test_family_runs_end_to_end_at_its_own_layers(family, photograph, tmp_path, monkeypatch):
    if family.smaller:
        build_smaller(family, monkeypatch)
    camreport.run(
        photograph,
        tmp_path / "out",
        model=family.model,
        weights="none",
        image_size=family.size,
        classes="top1",
        methods=METHODS,
        evidence="off" if family.model == "vgg16" else "basic",
    )
    loaded = load_model(family.model, weights="none", image_size=family.size)
    inputs = inputs_of(loaded.preprocessing, [photograph])
    layers = expected_layers(family, loaded, inputs)

    results = load_results(tmp_path / "out")
    shown = {layer.address: layer.shape for layer in results.manifest.layers}
    assert list(shown) == layers
    reads = [resolve_layer(loaded.module, layer).point for layer in layers]
    found = shapes_of(loaded.module, inputs, reads)
    assert list(shown.values()) == [as_grid(found[name], family) for name in reads]

    arrays = results.arrays(0)
    assert len(arrays["targets"]) == 1
    for layer, (_, height, width) in shown.items():
        for method in METHODS:
            cam = arrays[f"{method}/{layer}"]
            assert cam.shape == (1, height, width)
            assert np.isfinite(cam).all()
            assert cam.any()
    assert any((arrays[f"layer_cam/{layer}"] > 0).any() for layer in shown)

    assert results.manifest.model.warning == RANDOM
    page = (tmp_path / "out" / "index.html").read_text()
    assert f'<p class="notice alarm">Warning: {RANDOM}.</p>' in page

    # The same weights again, on a model in the midst of its training.
    module = loaded.module.train()
    next(iter(module.children())).eval()
    list(module.parameters())[-1].requires_grad_(False)
    before, tensors = state_of(module), {k: t.clone() for k, t in module.state_dict().items()}
    explained = camreport.explain(module, inputs, methods=METHODS)
    assert state_of(module) == before
    after = module.state_dict()
    assert list(after) == list(tensors)
    assert all(torch.equal(after[key], tensor) for key, tensor in tensors.items())
    assert list(explained.layers) == layers
    for method in METHODS:
        for layer in layers:
            cams = explained.maps[method][layer][0].numpy()
            scale = np.abs(cams).max()
            np.testing.assert_allclose(arrays[f"{method}/{layer}"], cams, atol=1e-5 * scale)
