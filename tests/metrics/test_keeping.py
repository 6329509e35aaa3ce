"""LRUCache things: by content, a bounded number, made once however many threads ask."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from semfacediff.metrics.cache import LRUCache, content


def test_the_oldest_goes_first_and_use_makes_young():
    kept, made = LRUCache(2), []

    def get(key):
        return kept.get(key, lambda: made.append(key) or key.upper())

    assert [get(k) for k in "abaca"] == list("ABACA")
    assert made == ["a", "b", "c"]
    get("b")
    assert made == ["a", "b", "c", "b"]


def test_threads_wait_for_what_one_of_them_makes():
    kept, made, gate = LRUCache(1), [], threading.Event()

    def make():
        made.append(threading.get_ident())
        gate.wait(10)
        return 7

    with ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(kept.get, "x", make) for _ in range(4)]
        gate.set()
        assert [f.result() for f in asked] == [7] * 4
    assert len(made) == 1


def test_what_failed_is_tried_again():
    kept = LRUCache(1)
    with pytest.raises(ZeroDivisionError):
        kept.get("x", lambda: 1 // 0)
    assert kept.get("x", lambda: 3) == 3


def test_content_is_shape_type_and_bytes():
    a = np.arange(6, dtype=np.uint8)
    assert content(a) == content(a[::-1][::-1])
    others = [a.reshape(2, 3), a.astype(np.int8), a + 1, a[::-1]]
    assert len({content(a), *map(content, others)}) == 5
