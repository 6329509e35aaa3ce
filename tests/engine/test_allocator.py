"""What a training on the CPU tells the memory allocator."""

import resource
import subprocess
import sys

import pytest

from semfacediff.engine.memory import keep_freed_memory

PAGES = """
import ctypes, resource, sys
from semfacediff.engine.memory import keep_freed_memory
if sys.argv[1] == "keep":
    sys.exit(7) if not keep_freed_memory() else None
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
for _ in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = ctypes.c_void_p(libc.malloc(ctypes.c_size_t(64 << 20)))
    ctypes.memset(block, 1, 64 << 20)
    libc.free(block)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_of_the_last_block(way):
    """Pages that the system had to supply for the last of four equal blocks, each freed before the next."""
    made = subprocess.run([sys.executable, "-c", PAGES, way], capture_output=True, text=True, check=False)
    if made.returncode == 7:
        pytest.skip("another allocator than glibc's")
    return int(made.stdout)


def test_a_freed_block_serves_the_next_one():
    whole = (64 << 20) // resource.getpagesize()
    assert pages_of_the_last_block("keep") < whole / 16


def test_other_allocators_are_left_alone(monkeypatch):
    monkeypatch.setattr("ctypes.CDLL", lambda _: object())
    assert keep_freed_memory() is False
