"""How the C library of a server's process keeps memory that is free again."""

from __future__ import annotations

import sys

__all__ = ["give_back"]

# Of glibc's malloc.h, for mallopt(3).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_M_ARENA_MAX = -8

_MAPPED = 1024 * 1024
"""Bytes from which on a block has pages of its own, which go back to the system with it.

More than what is read from a connection at once, or each read would cost a mapping.
"""
_FREE = 4 * 1024 * 1024
"""Bytes that may be free at the end of the heap before they go back."""


def give_back() -> None:
    """Have memory that was freed go back to the system. Does nothing where the C library is not glibc.

    By default glibc takes the largest block that was freed, up to 32 MB, as the least size of those that have pages of
    their own, and keeps twice that free: after one large body, the next ones are parts of the heap, where one small
    block behind them keeps them from going back. And it has a heap for each of several threads.
    """
    if sys.platform != "linux":
        return
    import ctypes  # 10 ms

    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        for option, value in ((_M_MMAP_THRESHOLD, _MAPPED), (_M_TRIM_THRESHOLD, _FREE), (_M_ARENA_MAX, 1)):
            libc.mallopt(option, value)
