"""How many threads this process may keep busy, and the libraries that compute told so.

A container's CPU quota is in none of the numbers that libraries look at: on 64 cores with a quota of two they would
start 64 threads, which wait for one another. Nothing heavy is imported before :func:`use_threads`.
"""

import os
from collections.abc import Iterator
from pathlib import Path

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
"""Read by OpenMP, MKL and OpenBLAS once, when they are loaded."""


def allowed_cores(root: Path = Path("/")) -> int:
    """Cores that this process may use: those it may run on, or fewer if its control group's quota is smaller.

    Args:
        root: where ``proc`` and ``sys`` lie.
    """
    try:
        cores = len(os.sched_getaffinity(0))
    except AttributeError:  # no Linux
        cores = os.cpu_count() or 1
    return max(1, min([cores, *(int(quota) for quota in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """Cores' worth of time that the process's control group and those around it have, by version 1 or 2."""
    try:
        groups = [line.split(":", 2) for line in (root / "proc/self/cgroup").read_text().splitlines()]
    except OSError:
        return
    for _, controllers, path in groups:
        if controllers and "cpu" not in controllers.split(","):
            continue
        mounted = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        here = mounted / path.lstrip("/")
        for folder in (here, *here.parents):  # in a container the path may be the host's; the mount is its own then
            if folder.is_relative_to(mounted):
                yield from _quota(folder, bool(controllers))


def _quota(folder: Path, first_version: bool) -> Iterator[float]:
    try:
        if first_version:
            words = [(folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period")]
        else:
            words = (folder / "cpu.max").read_text().split()
        quota, period = (float(word) for word in words)
    except (OSError, ValueError):  # no such group, or "max"
        return
    if quota > 0 and period > 0:  # -1: none
        yield quota / period


def threads_of(wish: int | None) -> int:
    """What ``runtime.threads`` means here.

    Without a wish: what the user set in ``OMP_NUM_THREADS``, or else :func:`core_share`. The 1 that ``torchrun`` puts
    there by itself is no user's wish.
    """
    if wish is not None:
        return wish
    given = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    of_torchrun = given == "1" and "TORCHELASTIC_RUN_ID" in os.environ
    if given.isdecimal() and int(given) > 0 and not of_torchrun:
        return int(given)
    return core_share()


def core_share() -> int:
    """Cores for this process: :func:`allowed_cores`, shared with the others of a launch on this machine."""
    beside = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, allowed_cores() // max(1, int(beside) if beside.isdecimal() else 1))


def announce(wish: int | None = None) -> None:
    """Tell libraries that are not loaded yet, by the environment; what a user has set there stays without a wish."""
    for name in VARIABLES:
        if wish is not None or name not in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
            os.environ[name] = str(threads_of(wish))


def use_threads(wish: int | None = None) -> int:
    """Let torch and OpenCV compute with as many threads as ``runtime.threads`` means; returns how many."""
    import cv2
    import torch

    n = threads_of(wish)
    torch.set_num_threads(n)
    cv2.setNumThreads(n)
    return n
