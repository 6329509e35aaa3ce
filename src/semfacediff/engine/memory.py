"""The process's memory allocator, told what a training on the CPU does with memory."""

import ctypes

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h
_LARGEST_KEPT = 1 << 30


def keep_freed_memory() -> bool:
    """Keep blocks of up to 1 GiB for the next step instead of handing them back; whether the allocator has such a knob.

    The activations of one step are as large as the last one's, but glibc returns every freed block above 32 MiB to the
    system, which then clears page by page what is asked for again: a third of the time of a step at 512 px. The peak
    stays what it was; the process just holds on to it. Other allocators are left alone.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # musl, macOS; Windows
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT) and mallopt(_M_TRIM_THRESHOLD, -1))
