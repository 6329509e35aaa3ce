"""Reading ahead with bounded memory."""

from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from semfacediff.types import FaceSample


def read_ahead(faces, indices: Sequence[int], workers: int, ahead: int = 4) -> Iterator[FaceSample]:
    """Samples in the given order; up to ``ahead`` are decoded in threads while the current one is used."""
    if workers == 0:
        yield from (faces[i] for i in indices)
        return
    with ThreadPoolExecutor(workers) as pool:
        waiting = deque()
        for i in indices:
            waiting.append(pool.submit(faces.__getitem__, i))
            if len(waiting) > ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
