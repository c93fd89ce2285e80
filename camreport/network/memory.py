"""Whether an exception means that memory is short."""

import torch

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",  # the CPU's allocator on Windows
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",  # what cuBLAS says when no memory is left for its handle
    "cudnn_status_alloc_failed",
    "cudnn_status_not_initialized",  # what cuDNN says when no memory is left for its handle
    "cudnn_status_internal_error_device_allocation_failed",
)
"""Parts of the messages, in lower case, by which devices say that memory is short."""


class BatchTooLarge(Exception):
    """A batch went beyond what it may hold; a smaller one will do."""


def is_out_of_memory(error: BaseException) -> bool:
    """Say whether an exception means that a smaller batch could succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | BatchTooLarge):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(name in message for name in OUT_OF_MEMORY)
