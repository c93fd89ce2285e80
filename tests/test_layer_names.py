"""Layers have names that a reader knows, are unique, and never say more than is sure."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import cast

import pytest
from torch import nn

from camreport.messages import message
from camreport.results.layer_names import layer_names
from camreport.results.schema import LayerEntry, Manifest

Layer = tuple[str, str, int]
"""Address, type, and side of the grid."""


def names(*layers: Layer, model: str = "net.py:build", channels: Sequence[Layer] = ()) -> list[str]:
    """Return the names of layers in the order of the run."""

    def entry(address: str, kind: str, side: int) -> LayerEntry:
        own = message("network.tensor.own")
        return LayerEntry(address=address, type=kind, tensor=own, shape=(8, side, side))

    shown, grids = ([entry(*layer) for layer in some] for some in (layers, channels))
    run = SimpleNamespace(layers=shown, channels=grids, model=SimpleNamespace(name=model))
    return [*layer_names(cast("Manifest", run)).values()]


def test_alexnet_has_the_names_of_its_paper() -> None:
    shown = names(
        ("features.0", "Conv2d", 55),
        ("features.5", "MaxPool2d", 13),
        ("features.9", "ReLU", 13),
        ("features.12", "MaxPool2d", 6),
        model="alexnet",
    )
    assert shown == ["conv1 · 55 × 55", "pool2 · 13 × 13", "relu4 · 13 × 13", "pool5 · 6 × 6"]


@pytest.mark.parametrize("model", ["vgg11", "vgg13_bn", "vgg16", "vgg16_bn", "vgg19_bn"])
def test_vgg_counts_convolutions_within_the_blocks_between_pools(model: str) -> None:
    """The oracle counts along torchvision's own network."""
    torchvision = pytest.importorskip("torchvision")
    block = 1
    place = 0
    for number, module in enumerate(getattr(torchvision.models, model)().features):
        kind = type(module).__name__
        if isinstance(module, nn.Conv2d):
            place += 1
            wanted = f"conv{block}_{place}"
        elif isinstance(module, nn.MaxPool2d):
            wanted = f"pool{block}"
            block, place = block + 1, 0
        else:
            wanted = f"{'relu' if kind == 'ReLU' else 'norm'}{block}_{place}"
        assert names((f"features.{number}", kind, 7), model=model) == [f"{wanted} · 7 × 7"]


@pytest.mark.parametrize(
    ("model", "address", "kind", "name"),
    [
        ("resnet50", "conv1", "Conv2d", "conv1"),
        ("resnet50", "layer3", "Sequential", "stage 3"),
        ("resnet50", "layer3.1", "Bottleneck", "stage 3, block 1"),
        ("resnet50", "layer3.1.conv2", "Conv2d", "stage 3, block 1, conv2"),
        ("resnet50", "layer3.1.relu#2", "ReLU", "stage 3, block 1, ReLU"),
        ("densenet121", "features.denseblock2", "_DenseBlock", "dense block 2"),
        ("densenet121", "features.transition1.norm", "BatchNorm2d", "transition 1, norm"),
        ("densenet121", "features.norm5", "BatchNorm2d", "norm5"),
        ("efficientnet_b0", "features.0", "Conv2dNormActivation", "stem"),
        ("efficientnet_b0", "features.5", "Sequential", "stage 5"),
        ("efficientnet_b0", "features.8", "Conv2dNormActivation", "head"),
        ("efficientnet-lite0", "_blocks.10", "MBConvBlock", "block 10"),
        ("efficientnet-lite0", "_swish#1", "ReLU6", "ReLU6"),
        ("timm:efficientnet_b0", "blocks.4", "Sequential", "stage 4"),
        ("timm:efficientnet_b0", "blocks.4.1", "InvertedResidual", "stage 4, block 1"),
        ("timm:vit_tiny_patch16_224", "blocks.7", "Block", "block 7"),
        ("timm:vit_tiny_patch16_224", "blocks.11.attn.qkv", "Linear", "block 11, attn qkv"),
        ("vit_b_16", "encoder.layers.encoder_layer_11.ln_1", "LayerNorm", "block 11, ln_1"),
        ("timm:swin_tiny", "layers.2", "SwinTransformerStage", "stage 2"),
        ("timm:swin_tiny", "layers.2.blocks.5.norm1", "LayerNorm", "stage 2, block 5, norm1"),
        ("swin_t", "features.5", "Sequential", "stage 3"),
        ("swin_t", "features.4", "PatchMerging", "PatchMerging"),
        ("convnext_tiny", "features.6", "Sequential", "Sequential"),
        ("timm:convnext_tiny", "stages.3", "ConvNeXtStage", "stage 3"),
        ("regnet_y_400mf", "trunk_output.block2", "AnyStage", "stage 2"),
        ("mobilenet_v2", "features.13", "InvertedResidual", "block 13"),
        ("vgg16", "block5_conv3", "Conv2d", "block5_conv3"),
        ("inception_v3", "Mixed_7c", "InceptionE", "Mixed_7c"),
    ],
)
def test_known_families_are_named_by_stage_and_block(
    model: str, address: str, kind: str, name: str
) -> None:
    assert names((address, kind, 14), model=model) == [f"{name} · 14 × 14"]


@pytest.mark.parametrize(
    ("model", "address", "kind"),
    [
        ("net.py:build", "features.0", "Conv2d"),
        ("net.py:build", "features.3", "Sequential"),
        ("alexnet", "features.0", "Sequential"),  # another network under that name
        ("alexnet", "features.40", "Conv2d"),
        ("vgg16", "features.0", "ReLU"),
        ("net.py:build", "layers.7", "BatchNorm2d"),
        ("net.py:build", "a.b.0", "Conv2d"),
        ("net.py:build", "_silu_3", "SiLU"),
    ],
)
def test_a_layer_whose_place_is_not_sure_is_named_by_its_type(
    model: str, address: str, kind: str
) -> None:
    assert names((address, kind, 7), model=model) == [f"{kind} · 7 × 7"]


def test_blocks_of_an_unknown_network_are_no_stages() -> None:
    assert names(("blocks.3", "Sequential", 7)) == ["block 3 · 7 × 7"]


def test_names_that_would_be_equal_carry_their_addresses() -> None:
    shown = names(("a.0", "ReLU", 7), ("a.1", "ReLU", 7), ("a.2", "ReLU", 3))
    assert shown == ["ReLU (a.0) · 7 × 7", "ReLU (a.1) · 7 × 7", "ReLU · 3 × 3"]


def test_layers_with_feature_maps_have_names_too() -> None:
    shown = names(("conv1", "Conv2d", 9), channels=[("conv1", "Conv2d", 9), ("conv2", "Conv2d", 5)])
    assert shown == ["conv1 · 9 × 9", "conv2 · 5 × 5"]
