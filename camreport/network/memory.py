"""Recognition of exceptions that mean that memory has run out."""

import torch

OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",  # the CPU's allocator on Windows
    "cublas_status_alloc_failed",
    "cublas_status_not_initialized",  # cuBLAS found no memory for its handle
    "cudnn_status_alloc_failed",
    "cudnn_status_not_initialized",  # cuDNN found no memory for its handle
    "cudnn_status_internal_error_device_allocation_failed",
)
"""Parts of devices' error messages, in lower case, that mean that memory has run out."""


class BatchTooLarge(Exception):
    """A batch needs more memory than it may use; a smaller batch can succeed."""


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception means that a smaller batch could succeed."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError | BatchTooLarge):
        return True
    message = str(error).lower()
    return isinstance(error, RuntimeError) and any(name in message for name in OUT_OF_MEMORY)
