"""A process that kills itself at a chosen operation on files: SIGKILL, as a machine that is switched off would.

``python killed_at.py K PATTERN SCRIPT WORD...`` runs SCRIPT and dies just before the K-th operation on a path that
contains PATTERN; it prints the number of operations if it comes to its end.
"""

import os
import runpy
import shutil
import signal
import sys

OPERATIONS = ("rename", "replace", "unlink", "rmdir", "mkdir", "link", "fsync")


def arm(at: int, pattern: str) -> list[str]:
    """Patch :mod:`os`; returns the list to which every counted operation is added. ``at`` counts from 1; 0: never."""
    counted: list[str] = []

    def counting(name, original):
        def operation(*args, **kwargs):
            path = os.readlink(f"/proc/self/fd/{args[0]}") if name == "fsync" else str(args[0])
            if pattern in path or "dir_fd" in kwargs:  # shutil.rmtree works with folders' descriptors
                counted.append(f"{name} {path}")
                if len(counted) == at:
                    os.kill(os.getpid(), signal.SIGKILL)
            return original(*args, **kwargs)

        return operation

    for name in OPERATIONS:
        setattr(os, name, counting(name, getattr(os, name)))
    return counted


if __name__ == "__main__":
    at, pattern, script, *words = sys.argv[1:]
    assert shutil.rmtree.avoids_symlink_attacks
    counted = arm(int(at), pattern)
    sys.argv = [script, *words]
    try:
        runpy.run_path(script, run_name="__main__")
    finally:
        print(f"operations: {len(counted)}", file=sys.stderr)
