"""Work done ahead of where it is needed, in threads, with bounded memory and in order."""

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import TypeVar

import cv2
import torch

from semfacediff.types import Faces, FaceSample

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_WORKERS = 8


def read_ahead(faces: Faces, indices: Sequence[int], workers: int, ahead: int = 4) -> Iterator[FaceSample]:
    """Samples in the given order; up to ``ahead`` are decoded in threads while the current one is used."""
    if workers == 0:
        yield from (faces[i] for i in indices)
        return
    with ThreadPoolExecutor(workers) as pool:
        yield from in_order(pool, faces.__getitem__, indices, ahead)


def in_order(pool: Executor, work: Callable[[Item], Result], items: Iterable[Item], ahead: int = 0) -> Iterator[Result]:
    """``work(item)`` for every item, in their order; while one is asked for, up to ``ahead`` more are in the pool.

    Items are drawn as they are needed, in the caller's thread. If drawing one fails, or is interrupted, the results of
    those before it come first, then the exception.
    """
    waiting: deque[Future[Result]] = deque()
    drawn = iter(items)
    stopped: BaseException | None = None
    while stopped is None:
        try:
            item = next(drawn)
        except BaseException as e:  # StopIteration among them
            stopped = e
            break
        waiting.append(pool.submit(work, item))
        if len(waiting) > ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
    if stopped is not None and not isinstance(stopped, StopIteration):
        raise stopped


def grouped(items: Iterable[Item], n: int) -> Iterator[list[Item]]:
    """``n`` items at a time; if drawing one fails, or is interrupted, those before it come first."""
    group = []
    try:
        for item in items:
            group.append(item)
            if len(group) == n:
                yield group
                group = []
    except (Exception, KeyboardInterrupt):
        if group:
            yield group
        raise
    if group:
        yield group


@contextlib.contextmanager
def torch_threads(n: int) -> Iterator[int]:
    """Let torch compute with ``n`` threads in this thread while the block lasts; yields how many there were before."""
    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield before
    finally:
        torch.set_num_threads(before)


@contextlib.contextmanager
def _opencv_threads(n: int) -> Iterator[None]:
    before = cv2.getNumThreads()
    cv2.setNumThreads(n)  # for all threads of the process
    try:
        yield
    finally:
        cv2.setNumThreads(before)


@contextlib.contextmanager
def one_core_each(overlap: bool) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """(pool, ahead for :func:`in_order`): as many workers as torch has threads (:data:`MOST_WORKERS` at most).

    In each, and in this thread while the block lasts, torch and OpenCV compute with one thread: several photos side by
    side keep the cores busier than one photo spread over them, and what is computed does not depend on how many cores
    there are.
    Without ``overlap`` there is one worker, and nothing is ahead: the same computations one after another.
    """
    with torch_threads(1) as threads, _opencv_threads(1):
        workers = min(threads, MOST_WORKERS) if overlap else 1
        with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool, 2 * workers if overlap else 0
