"""``explain``: the maps of one tensor of images, in one call."""

from collections.abc import Sequence

from torch import Tensor, nn

from camreport.engine.asked import Classifier, check_images
from camreport.engine.explainer import Explainer
from camreport.engine.explanation import Explanation
from camreport.engine.targets import Targets, as_indices
from camreport.methods import DEFAULT_METHODS
from camreport.settings import AUTO, EXACT, GAMMA


def explain(
    model: nn.Module | Classifier,
    images: Tensor,
    layers: str | nn.Module | Sequence[str | int | nn.Module] | None = None,
    methods: str | Sequence[str] = DEFAULT_METHODS,
    targets: Targets = None,
    *,
    quantity: str = "logit",
    gamma: float = GAMMA,
    stages: int | None = None,
    smooth: str | Sequence[str] = (),
    seed: int = 0,
    output: str | None = None,
    activation: str = AUTO,
    precision: str = EXACT,
) -> Explanation:
    """Compute the class-activation maps of a batch: every layer, method and class at once.

    The model's mode, ``requires_grad``, ``.grad``, hooks and state are restored at the end, also
    after an exception. Many images are split into batches by a byte budget; the maps do not
    depend on the split.

    Args:
        model: a classifier from ``(N, 3, H, W)`` to logits, or the result of ``load_model``.
        images: ``(N, 3, H, W)``, preprocessed; moved to the model's device.
        layers: addresses such as ``features.12``, patterns such as ``layer*``, or module
            objects; None chooses up to five layers.
        methods: names from the registry, in any spelling.
        targets: K class indices for every image, a tensor ``(N, K)``, ``"all"``, ``"top3"``,
            or None for the most probable class.
        quantity: the score to explain: the class's ``logit``, its ``probability``, its
            ``contrast`` (this logit minus the strongest other) or ``contrast:INDEX``. Score-CAM
            and Finer-CAM have a score of their own and keep it.
        gamma: steepness of the lift in LayerCAM's fusion.
        stages: how many early stages the fusion lifts; by default three if there are five stages,
            otherwise all but the last.
        smooth: ``noise`` averages over 4 noisy copies of each image, ``aug`` over mirrored and
            brighter or darker ones, ``eigen`` keeps the first principal component of the
            channels' contributions instead of their sum. They apply to the methods that are
            sums over channels of activation and gradient.
        seed: random seed of the noise.
        output: key, attribute or index of the logits in the model's output. One logit per image,
            as from a binary head, becomes two classes.
        activation: how logits become probabilities: ``softmax`` over exclusive classes,
            ``sigmoid`` of each class by itself, ``none`` if the model returns probabilities;
            ``auto`` detects a model that returns probabilities.
        precision: arithmetic of the model's passes: ``exact`` for float32, ``tf32`` on GPUs that
            have it, ``bf16`` for bfloat16; maps are computed from them in float32.

    Raises:
        LayerError: an address leads to no module, or to no spatial tensor.
        MethodError: an unknown method or option, or none of the methods is defined here. If only
            some methods are undefined, ``skipped`` holds the reasons.
        ClassError: a target that is not a class of the model, or an unknown quantity.
        ModelError: images or logits of the wrong shape.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 2))
        >>> e = explain(net, torch.rand(5, 3, 8, 8), layers=["0"], targets=[0, 1])
        >>> tuple(e.maps["layer_cam"]["0"].shape)
        (5, 2, 6, 6)
    """
    check_images(images)
    as_indices(targets, len(images))
    with Explainer(
        model,
        layers,
        methods,
        quantity=quantity,
        gamma=gamma,
        stages=stages,
        smooth=smooth,
        seed=seed,
        output=output,
        activation=activation,
        precision=precision,
        input_shape=tuple(images.shape[1:]),
    ) as explainer:
        return explainer.explain(images, targets)
