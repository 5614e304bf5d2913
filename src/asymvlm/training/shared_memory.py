"""Shared memory, in which loader workers hand their batches over."""

from __future__ import annotations

import multiprocessing

import torch

from ..errors import DataError, first_line

_LEAST = 2**20  # bytes; far less than a batch


def check_shared_memory(workers: int) -> None:
    """Refuse loader workers where there is no shared memory, before any work.

    Raises DataError.
    """
    if workers == 0:
        return
    try:
        multiprocessing.Lock()
        torch.empty(_LEAST, dtype=torch.uint8).share_memory_()
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"data.num_workers: {workers} workers need shared memory, /dev/shm, and it cannot be "
            f"used ({first_line(error)}); set it to 0, or give a container more (docker's "
            "--shm-size)"
        ) from error
