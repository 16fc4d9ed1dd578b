"""Freed memory stays with the process while it trains on a CPU.

glibc gives large blocks back to the system at every free, and the next step has every page of them faulted in and zeroed again.
"""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""mallopt(3)."""
LARGEST = 1 << 30


def keep_memory() -> bool:
    """Whether the process now keeps what it frees; False where its C library is not glibc. It costs what fragments leave unused."""
    if not sys.platform.startswith("linux"):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    return bool(libc.mallopt(M_MMAP_THRESHOLD, LARGEST)) and bool(libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1))
