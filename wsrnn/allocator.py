"""The C library's allocator, told to keep what is freed: the temporaries of a step come back.

XLA allocates them on CPUs anew at every step. glibc returns large blocks to the system when they
are freed, which then hands out zeroed pages again, one fault for each 4 KiB: a third of the time of
a step, where they are many MB (experiments/speed.md).
"""

import ctypes
import os
import sys

TRIM_THRESHOLD, TOP_PAD, MMAP_MAX, ARENA_MAX = -1, -2, -4, -8  # of mallopt(3)
MOST = 2**31 - 1


def keep_freed() -> None:
    """Call before jax starts its threads; nothing happens without glibc or with $MALLOC_... set.

    One heap for all threads grows in steps of 64 MiB, and is never given back.
    """
    if sys.platform != "linux" or any(name.startswith("MALLOC_") for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # other C libraries have none
    for option, value in ((ARENA_MAX, 1), (MMAP_MAX, 0), (TRIM_THRESHOLD, MOST), (TOP_PAD, 2**26)):
        if mallopt:
            mallopt(option, value)
