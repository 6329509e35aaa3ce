"""What the jobs of one sweep share: the last object of a kind, while its inputs are unchanged."""

import gc
import os
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class SweepCache(Generic[T]):
    """Keeps the last object made, for the next job of a sweep if it asks for the same of unchanged files."""

    def __init__(self):
        self._key: object = None
        self._made: T | None = None

    def get(self, key: object, make: Callable[[], T]) -> T:
        if "SEMFACEDIFF_SWEEP" not in os.environ:  # set for the jobs of a sweep: nothing else asks twice
            return make()
        if key != self._key:
            self._key = self._made = None  # before the new one, so that a device need not hold both
            gc.collect()  # a pipeline holds itself through its hooks
            self._made = make()
            self._key = key
        return self._made
