"""Trainings of several settings, with some seeds each, compared on their validation photos."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from semfacediff.errors import UserError
from semfacediff.metrics.photo_counts import PhotoCounts
from semfacediff.metrics.segmentation import aggregates
from semfacediff.records.columns import read_table
from semfacediff.records.integrity import VALIDATION
from semfacediff.records.statistics import holm, swap_p

Label = tuple[str, ...]
"""What tells a setting from the others: values of the keys of the configuration in which they differ."""


def validated(folders: Sequence[Path], classes: tuple[str, ...]) -> np.ndarray | None:
    """float64 ``[N, 3 C]``: pixels found, true and predicted of each validation photo, in the order of the ids, at the
    best epoch, added over the runs (the seeds of one setting); ``None`` where a run kept none.

    Raises:
        UserError: runs were validated on other photos.
    """
    total, ids = None, None
    for folder in folders:
        if not (folder / VALIDATION).exists():
            return None
        rows = read_table(folder / VALIDATION)
        counts = PhotoCounts.of(rows.to_dict("records"), len(classes))
        of_run = np.concatenate([counts.hits, counts.true, counts.predicted], axis=1).astype(np.float64)
        found = sorted(rows["sample_id"])
        if ids is not None and found != ids:
            raise UserError(f"{folder} was validated on other photos than {folders[0]}; validate all on the same ones")
        total, ids = of_run if total is None else total + of_run, found
    return total


def against_the_best(
    counts: Mapping[Label, np.ndarray], means: Mapping[str, Mapping[Label, float]], classes: tuple[str, ...]
) -> dict[tuple[Label, str], float]:
    """(setting, score) -> p of its difference from the setting with the highest mean of that score, after Holm's
    correction over all of them; the best itself is absent.

    Args:
        counts: setting -> :func:`validated`. means: score -> setting -> mean over seeds, finite.
    """
    tests = {
        (other, score): _swapped(counts[best], counts[other], score, classes)
        for score, of in means.items()
        for best in [max(of, key=lambda name: of[name])]
        for other in of
        if other != best
    }
    return dict(zip(tests, holm(np.array(list(tests.values()))).tolist(), strict=True))


def _swapped(best: np.ndarray, other: np.ndarray, score: str, classes: tuple[str, ...]) -> float:
    return float(swap_p(best, other, _pooled(score, classes))[0])


def _pooled(score: str, classes: tuple[str, ...]) -> Callable[[np.ndarray], np.ndarray]:
    def of(sums: np.ndarray) -> np.ndarray:
        hits, true, predicted = np.split(sums, 3, axis=-1)
        return np.asarray(aggregates(hits, true, predicted, classes)[score])[..., None]

    return of
