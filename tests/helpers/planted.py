"""Networks of which is known what they look at, and batches of evidence about them."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from camreport import Explainer
from camreport.images.preprocessing import Preprocessing
from camreport.pipeline.evidence.batch import EvidenceBatch
from camreport.results.schema import MapKey

SIZE = 32
"""Pixels on a side of the images."""

PATCH = (slice(4, 12), slice(16, 28))
"""Rows and columns of the pixels that planted networks read: six cells of 8 × 8."""


def linear_net(weight: Tensor) -> nn.Sequential:
    """Return a net with logits w·x and -w·x whose layer ``0`` is the image itself.

    Args:
        weight: of each value of the image, ``(3, H, W)``.
    """
    same = nn.Conv2d(3, 3, 1, bias=False)
    head = nn.Linear(weight.numel(), 2, bias=False)
    with torch.no_grad():
        same.weight.copy_(torch.eye(3)[:, :, None, None])
        head.weight.copy_(torch.stack([weight.flatten(), -weight.flatten()]))
    return nn.Sequential(same, nn.Flatten(), head).double().eval()


def planted_net() -> nn.Sequential:
    """Return a net whose first logit is 4 times the mean of relu(the image) in ``PATCH``.

    Its layer ``1`` is relu(the image).
    """
    inside = torch.from_numpy(patch()).expand(3, -1, -1)
    linear = linear_net(inside / inside.sum() * 4)
    return nn.Sequential(linear[0], nn.ReLU(), *linear[1:])


def patch() -> NDArray[np.float32]:
    """Return 1 in ``PATCH`` and 0 elsewhere, ``(H, W)``."""
    found = np.zeros((SIZE, SIZE), np.float32)
    found[PATCH] = 1
    return found


def bright_images(count: int, seed: int = 0) -> NDArray[np.float32]:
    """Return images of values from 0.5 to 1.5, ``(n, 3, H, W)``."""
    values = np.random.default_rng(seed).uniform(0.5, 1.5, (count, 3, SIZE, SIZE))
    return values.astype(np.float32)


def evidence_batch(
    net: nn.Module,
    layer: str,
    inputs: NDArray[np.float32],
    maps: Mapping[MapKey, NDArray[np.float32]],
    targets: Sequence[int] = (0,),
    **further: object,
) -> EvidenceBatch:
    """Return a batch of evidence about maps of a net.

    Args:
        net: float64.
        layer: address of a layer.
        inputs: ``(n, 3, H, W)``.
        maps: ``(n, K, h, w)`` by method and layer.
        targets: the K classes of every image.
        further: other fields of the batch.
    """
    explainer = Explainer(net, [layer], ["grad_cam"], input_shape=inputs.shape[1:])
    assert explainer.plan.num_classes == 2
    with torch.no_grad():
        logits = net(torch.from_numpy(inputs).double()).float().numpy()
    fields = {
        "controls": {},
        "indices": np.arange(len(inputs)),
        "preprocessing": Preprocessing(),
        "seed": 0,
    }
    chosen = np.tile(np.array(targets), (len(inputs), 1))
    return EvidenceBatch(
        explainer=explainer,
        inputs=inputs,
        maps=maps,
        targets=chosen,
        logits=logits,
        **(fields | further),
    )
