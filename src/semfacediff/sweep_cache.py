"""What the jobs of one sweep share: the last object of a kind, while its inputs are unchanged."""

import gc
import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SweepCache(Generic[T]):
    """Keeps the last object made, for the next job of a sweep if it asks for the same of unchanged files."""

    def __init__(self):
        self._kept: tuple[object, T] | None = None

    def get(self, key: object, make: Callable[[], T]) -> T:
        if "SEMFACEDIFF_SWEEP" not in os.environ:  # set for the jobs of a sweep: nothing else asks twice
            return make()
        if self._kept is None or key != self._kept[0]:
            self._kept = None  # before the new one, so that a device need not hold both
            gc.collect()  # a pipeline holds itself through its hooks
            self._kept = key, make()
        return self._kept[1]
