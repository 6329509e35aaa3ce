"""Cache of intermediate results that several scores need and that are expensive to compute."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from typing import Generic, TypeVar

import numpy as np

Made = TypeVar("Made")


class LRUCache(Generic[Made]):
    """The last ``size`` things made, by what they were made of; threads may share it.

    A thread that asks for what another is making waits for it.
    """

    def __init__(self, size: int):
        self.size = size
        self._made: OrderedDict[Hashable, Future[Made]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """What was made under ``key``, or what ``make`` gives."""
        with self._lock:
            known = self._made.get(key)
            if known is not None:
                self._made.move_to_end(key)
            else:
                mine = self._made[key] = Future()
                while len(self._made) > self.size:
                    self._made.popitem(last=False)
        if known is not None:
            return known.result()
        try:
            mine.set_result(make())
        except BaseException as e:
            with self._lock:
                if self._made.get(key) is mine:
                    del self._made[key]
            mine.set_exception(e)
            raise
        return mine.result()


def content(array: np.ndarray) -> tuple:
    """A key that two arrays share only if they hold the same."""
    array = np.ascontiguousarray(array)
    return array.shape, array.dtype.str, hashlib.sha256(array.data).digest()
