"""What of a class is explained: its logit, its probability, or its lead over another class.

Every choice is one row of cotangents for the backward pass, and one way to read the scores of
a changed forward pass.
"""

import torch
from torch import Tensor

from camreport.errors import ClassError
from camreport.network.logits import probabilities
from camreport.settings import SIGMOID, SOFTMAX

LOOK_ALIKES = 3
"""Classes that Finer-CAM compares with, as in torchcam."""

LOOK_ALIKE_SHARE = 0.6
"""How much of their mean logit Finer-CAM subtracts, as in torchcam."""


def cotangents(
    logits: Tensor,
    targets: Tensor,
    quantity: str,
    reference: Tensor | None = None,
    activation: str = SOFTMAX,
) -> Tensor:
    """Return d score / d logits of each target, ``(K, N, num_classes)``.

    logit: e_c; probability: p_c (e_c - p), of sigmoids p_c (1 - p_c) e_c, of outputs that are
    probabilities e_c; contrast: e_c - e_d, with d the strongest other class or the named one.

    Args:
        logits: ``(N, num_classes)``.
        targets: class indices, ``(N, K)``.
        quantity: as for ``check_quantity``.
        reference: the logits that say which class is the strongest other, if not these.
        activation: how the logits become probabilities, as in ``camreport.network.logits``.
    """
    logits = logits.detach()
    rows = _one_hot(targets, logits)  # (K, N, num_classes)
    if quantity == "logit":
        return rows
    if quantity == "probability":
        shares = probabilities(logits, activation)
        if activation == SOFTMAX:
            return (rows * shares).sum(2, keepdim=True) * (rows - shares)
        return rows * shares * (1 - shares) if activation == SIGMOID else rows
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
    return rows.scatter(2, nearest, -LOOK_ALIKE_SHARE / count)


def strongest_classes(logits: Tensor, count: int) -> Tensor:
    """Return the classes of the largest logits, ``(N, count)``; of equal ones the lower first."""
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
        logits: of M passes for each image, ``(N, M, num_classes)``.
        reference: logits of the images as they are, ``(N, num_classes)``: they say which class
            is the strongest other.
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
    """Return for every image and class the class it is compared with, ``(N, num_classes)``.

    Of equal logits the lower index counts as the stronger.

    Raises:
        ClassError: there is no class of the number that was named.
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
    """Return ``(K, N, num_classes)`` of targets ``(N, K)``, in the dtype of the logits."""
    rows = logits.new_zeros(targets.shape[1], *logits.shape)
    return rows.scatter_(2, targets.T.unsqueeze(2), 1)
