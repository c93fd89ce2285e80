"""A forward pass with shapes only: what memory and time a model from a file would need."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from camreport.errors import ModelError

MAX_VALUES = 2**26
"""Most values of a tensor for one image: a quarter of a GiB in float32."""

MAX_OPERATIONS = 200_000
"""Most operations on tensors for one image; torchvision's deepest classifier needs some 5,000."""


def run_shapes(module: nn.Module, height: int, width: int) -> None:
    """Run a module on the shape of one image, without computing values or using memory.

    Raises:
        ModelError: one image would need more memory or time than any classifier, or an unknown
            amount.
        Exception: any exception of the module.
    """
    with torch.no_grad(), torch.device("meta"), _Shapes():
        try:
            module(torch.empty(1, 3, height, width))
        except NotImplementedError as error:
            raise ModelError(
                f"refused: it is unknown how much memory its {type(module).__name__} needs "
                f"({error}). Save its weights with torch.save(model.state_dict(), file)."
            ) from error


class _Shapes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Runs every operation on the meta device and checks the size of its result."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._operations = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        args, kwargs = tree_map_only(Tensor, _without_values, (args, kwargs or {}))
        returned = func(*args, **kwargs)
        self._operations += 1
        largest = _largest(returned)
        grown = largest > max(MAX_VALUES, _largest((args, kwargs)))  # weights may be transposed
        if self._operations > MAX_OPERATIONS or grown:
            raise ModelError(
                "refused: it asks for more memory or time than any classifier: "
                f"{largest:,} values in operation {self._operations:,} on one image."
            )
        return returned


def _largest(values: object) -> int:
    tensors = [part for part in tree_leaves(values) if isinstance(part, Tensor)]
    return max((tensor.numel() for tensor in tensors), default=0)


def _without_values(tensor: Tensor) -> Tensor:
    return tensor if tensor.is_meta else torch.empty_like(tensor, device="meta")
