"""The score to explain: a class's logit, its probability, or its margin over another class.

Each quantity defines a row of cotangents for the backward pass, and the way in which scores are
read from changed forward passes.
"""

import torch
from torch import Tensor

from camreport.errors import ClassError
from camreport.network.logits import probabilities
from camreport.settings import SIGMOID, SOFTMAX

LOOK_ALIKES = 3
"""Number of classes that Finer-CAM compares with, as in torchcam."""

LOOK_ALIKE_WEIGHT = 0.6
"""Weight of the look-alikes' mean logit that Finer-CAM subtracts, as in torchcam."""


def cotangents(
    logits: Tensor,
    targets: Tensor,
    quantity: str,
    reference: Tensor | None = None,
    activation: str = SOFTMAX,
) -> Tensor:
    """Return d score / d logits of each target, ``(K, N, num_classes)``.

    The cotangents are, for a logit: e_c; for a probability: p_c (e_c - p) with a softmax,
    p_c (1 - p_c) e_c with a sigmoid, e_c if the model returns probabilities; for a contrast:
    e_c - e_d, with d the strongest other class or the given class.

    Args:
        logits: ``(N, num_classes)``.
        targets: class indices, ``(N, K)``.
        quantity: as for ``check_quantity``.
        reference: logits that decide which other class is the strongest; ``logits`` if None.
        activation: how the logits become probabilities, as in ``camreport.network.logits``.
    """
    logits = logits.detach()
    rows = _one_hot(targets, logits)  # (K, N, num_classes)
    if quantity == "logit":
        return rows
    if quantity == "probability":
        chances = probabilities(logits, activation)
        if activation == SOFTMAX:
            return (rows * chances).sum(2, keepdim=True) * (rows - chances)
        return rows * chances * (1 - chances) if activation == SIGMOID else rows
    reference = logits if reference is None else reference.detach()
    rivals = _rivals(reference, quantity).gather(1, targets)
    return rows - _one_hot(rivals, logits)


def look_alike_cotangents(logits: Tensor, targets: Tensor) -> Tensor:
    """Return Finer-CAM's cotangents, ``(K, N, num_classes)``: e_c - 0.6 mean(e_d).

    The look-alikes d are the three classes (or all others, if there are fewer) whose logits
    are nearest to the target's.

    Source: Zhang et al., Finer-CAM, CVPR 2025, https://arxiv.org/abs/2501.11309
    """
    logits = logits.detach()
    rows = _one_hot(targets, logits)
    own = logits.gather(1, targets).T.unsqueeze(2)  # (K, N, 1)
    distance = (logits - own).abs().masked_fill(rows.bool(), torch.inf)
    count = min(LOOK_ALIKES, logits.shape[1] - 1)
    nearest = distance.argsort(dim=2, stable=True)[..., :count]
    return rows.scatter(2, nearest, -LOOK_ALIKE_WEIGHT / count)


def strongest_classes(logits: Tensor, count: int) -> Tensor:
    """Return the classes of the largest logits, ``(N, count)``; ties go to the lower index."""
    return logits.argsort(dim=1, descending=True, stable=True)[:, :count]


def scores(
    logits: Tensor,
    reference: Tensor,
    targets: Tensor,
    quantity: str,
    activation: str = SOFTMAX,
) -> Tensor:
    """Return the targets' scores in changed forward passes, ``(N, M, K)``.

    Args:
        logits: logits of M passes for each image, ``(N, M, num_classes)``.
        reference: logits of the unchanged images, ``(N, num_classes)``; they decide which other
            class is the strongest.
        targets: class indices, ``(N, K)``.
        quantity: as for ``check_quantity``.
        activation: how the logits become probabilities.
    """

    def of_classes(values: Tensor, classes: Tensor) -> Tensor:
        return values.gather(2, classes[:, None].expand(-1, values.shape[1], -1))

    if quantity == "logit":
        return of_classes(logits, targets)
    if quantity == "probability":
        return of_classes(probabilities(logits, activation), targets)
    rivals = _rivals(reference, quantity).gather(1, targets)
    return of_classes(logits, targets) - of_classes(logits, rivals)


def _rivals(logits: Tensor, quantity: str) -> Tensor:
    """Return for every image and class the class that it is compared with, ``(N, num_classes)``.

    Ties between equal logits go to the lower index.

    Raises:
        ClassError: the model has no class with the given index.
    """
    num_classes = logits.shape[1]
    first, second = strongest_classes(logits, 2).unbind(1)
    classes = torch.arange(num_classes, device=logits.device).expand_as(logits)
    strongest = torch.where(classes == first[:, None], second[:, None], first[:, None])
    named = quantity.partition(":")[2]
    if not named:
        return strongest
    if int(named) >= num_classes:
        raise ClassError(
            f"quantity: expected a class index 0 to {num_classes - 1} behind 'contrast:', "
            f"got {named}."
        )
    return torch.where(classes == int(named), strongest, int(named))


def _one_hot(targets: Tensor, logits: Tensor) -> Tensor:
    """Return targets ``(N, K)`` one-hot, ``(K, N, num_classes)``, in the dtype of the logits."""
    rows = logits.new_zeros(targets.shape[1], *logits.shape)
    return rows.scatter_(2, targets.T.unsqueeze(2), 1)
