"""What becomes of memory that a training process frees."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_MAX, _M_ARENA_MAX = -1, -4, -8
_NEVER = -1


def keep_freed_memory() -> None:
    """Tensors of a step reuse what those of the last one freed; call before there are threads.

    glibc asks the system for each large block and gives it back, so that every tensor is made of
    pages which the system fills with zeros first: of a training step on a CPU that takes up to a
    third (`docs/performance.md`). The process keeps the most that it ever used. With another C
    library, such as musl or macOS's, nothing happens.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        # Threads other than the first would have arenas in which no large block fits.
        mallopt(_M_ARENA_MAX, 1)
