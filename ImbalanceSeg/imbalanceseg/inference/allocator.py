"""Keep the memory of large tensors instead of giving it back to the system after each of them."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from contextlib import contextmanager

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
# As high as glibc sets them by itself.
_USUAL_TRIM, _USUAL_MMAP = 64 * 2**20, 32 * 2**20


@contextmanager
def kept_memory() -> Iterator[None]:
    """Let glibc keep freed blocks of any size inside, and give all of them back at the end.

    By default every block above 32 MiB is fetched from the system anew and cleared page by page,
    which takes up to half of a network's time on a processor. The setting is the whole process's.
    Without glibc nothing is changed.
    """
    libc = _glibc()
    if libc is None:
        yield
        return
    libc.mallopt(_MMAP_THRESHOLD, _NEVER)
    libc.mallopt(_TRIM_THRESHOLD, _NEVER)
    try:
        yield
    finally:
        libc.mallopt(_MMAP_THRESHOLD, _USUAL_MMAP)
        libc.mallopt(_TRIM_THRESHOLD, _USUAL_TRIM)
        libc.malloc_trim(0)


def _glibc() -> ctypes.CDLL | None:
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "gnu_get_libc_version") else None
