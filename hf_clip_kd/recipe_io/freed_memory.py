"""Freed memory that stays with a process, for batches of one size on a CPU."""

import ctypes
import os
import sys

import torch

# Parameters of glibc's `mallopt`. Its values are C ints.
TRIM_THRESHOLD, MMAP_MAX = -1, -4
LARGEST = 2**31 - 1


def keep_freed_memory() -> None:
    """
    Tell glibc to keep freed memory, on a machine without an accelerator.

    glibc returns the memory of each large tensor to the kernel. The kernel clears every page anew when the next batch
    asks for the same size. A large part of a convnet's time goes there. Sizes that change leave gaps in kept memory:
    the training of a LLaVA took three times as much. Variables `MALLOC_*` of the user win.

    Source: `man mallopt`, M_MMAP_MAX and M_TRIM_THRESHOLD.
    """
    if torch.accelerator.is_available() or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is not None:  # musl has none.
        mallopt(MMAP_MAX, 0)
        mallopt(TRIM_THRESHOLD, LARGEST)
