"""Networks of known libraries without their classifier: they return features, not classes."""

from torch import nn

from camreport.errors import ModelError
from camreport.models.alexnet import AlexNet
from camreport.models.loaded import LoadedModel

_HEADS = ("fc", "classifier", "heads", "head")  # torchvision's names


def check_head(loaded: LoadedModel) -> None:
    """Refuse a network of torchvision or timm that has no classifier.

    Other networks pass: it is unknown what their last layer is for.

    Raises:
        ModelError: an ``nn.Identity``, or nothing, has replaced the classifier.
    """
    module, library = loaded.module, type(loaded.module).__module__
    if library.startswith("torchvision.models.") or isinstance(module, AlexNet):
        taken_off = isinstance(_last_of_torchvision(module), nn.Identity)
    else:
        taken_off = library.startswith("timm.models.") and not _parameters_of_timm(module)
    if taken_off:
        raise ModelError(
            f"model: expected a classifier, but that of {loaded.name} ({loaded.source}) is taken "
            "off: it returns features of an image, not classes. Give the network with the head "
            "that was trained on your classes."
        )


def _parameters_of_timm(module: nn.Module) -> list[nn.Parameter]:
    """Return the parameters of the classifier of one of timm's networks."""
    try:
        classifier = module.get_classifier()  # type: ignore[operator]
    except AttributeError:  # an nn.Identity has replaced the part that contains the classifier
        return []
    parts = classifier if isinstance(classifier, tuple) else (classifier,)
    return [parameter for part in parts if part is not None for parameter in part.parameters()]


def _last_of_torchvision(module: nn.Module) -> nn.Module:
    """Return the last layer of the classifier of one of torchvision's networks."""
    parts = dict(module.named_children())
    head = next((parts[name] for name in _HEADS if name in parts), module)
    return list(head.modules())[-1]
