"""FID and KID at the end of a run, from the photos and what was made of them on disk, in the order of the data set."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from semfacediff.data.sizes import at_working_size
from semfacediff.engine.prefetch import read_ahead
from semfacediff.errors import UserError
from semfacediff.metrics.inception import FEATURES
from semfacediff.metrics.set_scores import SetScores
from semfacediff.records.features import PHOTOS, write_features
from semfacediff.records.samples import ERROR
from semfacediff.tasks.editing.bench import EditingBench
from semfacediff.tasks.editing.sample_row import edit_file

Pictures = Iterator[np.ndarray]
"""uint8 ``[H, W, 3]`` each."""


def measure_sets(bench: EditingBench, sets: SetScores) -> tuple[dict[str, dict], list[str]]:
    """:func:`measured_sets` of an editing run; its sets are its edits."""
    return measured_sets(
        sets,
        bench.folder,
        bench.faces.ids,
        _edited(bench),
        lambda ids: _photos(bench, ids),
        lambda name, ids: _saved_edits(bench, name, ids),
    )


def measured_sets(
    sets: SetScores,
    folder: Path,
    order: Sequence[str],
    made: Mapping[str, list[str]],
    photos: Callable[[list[str]], Pictures],
    saved: Callable[[str, list[str]], Pictures],
) -> tuple[dict[str, dict], list[str]]:
    """(name of a set -> its columns of the summary, notes for the reader); features go to ``features/``.

    Everything is computed anew from what lies on the disk, so that a run that was interrupted has the numbers of one
    that was not.

    Args:
        order: ids of the data set. made: name of a set -> ids of what was made, in that order.
        photos: of ids, what the sets are compared to. saved: of a set's name and ids, what was made.
    """
    known: set[str] = set().union(*made.values())
    wanted = [id_ for id_ in order if id_ in known]
    total = len(wanted) + sum(map(len, made.values()))
    with tqdm(total=total, desc="features", unit="photo", disable=None) as bar:

        def kept(name: str, ids: list[str], pictures: Pictures) -> dict[str, np.ndarray]:
            rows = _features(sets, _counted(pictures, bar))
            write_features(folder, name, ids, rows)
            return dict(zip(ids, rows, strict=True))

        before = kept(PHOTOS, wanted, photos(wanted))
        after = {name: kept(name, ids, saved(name, ids)) for name, ids in made.items()}
    return scored_sets(sets, before, after)


def scored_sets(
    sets: SetScores, photos: Mapping[str, np.ndarray], edits: Mapping[str, Mapping[str, np.ndarray]]
) -> tuple[dict[str, dict], list[str]]:
    """(name of a set -> its columns of the summary, notes for the reader).

    Args:
        photos: id -> float32 ``[2048]``. edits: name -> id -> float32 ``[2048]``, in the order of the data set.
    """
    scores, notes = {}, []
    for name, of_set in edits.items():
        before, after = ([of[id_] for id_ in of_set] for of in (photos, of_set))
        stacked = (np.array(rows, np.float32).reshape(-1, FEATURES) for rows in (before, after))
        scores[name], missing = sets.score(*stacked)
        if missing:
            empty = [column for column in sets.columns if column not in scores[name]]
            notes.append(f"{', '.join(empty)} of {name} {'are' if len(empty) > 1 else 'is'} empty: {missing}")
    return scores, notes + _names(sets, {name: len(of_set) for name, of_set in edits.items()})


def _edited(bench: EditingBench) -> dict[str, list[str]]:
    """Spec's name -> ids whose edit was scored, in the order of the data set."""
    log = bench.kept_log
    scored = {log.key_of(row) for row in log if row["status"] != ERROR and row["latency_s"] is not None}
    return {c.name: [id_ for id_ in bench.faces.ids if bench.key_of(id_, c) in scored] for c in bench.specs}


def _photos(bench: EditingBench, ids: list[str]) -> Iterator[np.ndarray]:
    place = {id_: i for i, id_ in enumerate(bench.faces.ids)}
    for sample in read_ahead(bench.faces, [place[id_] for id_ in ids], bench.settings.runtime.decoders):
        yield at_working_size(sample.photo, bench.settings.working_size)


def _saved_edits(bench: EditingBench, name: str, ids: list[str]) -> Iterator[np.ndarray]:
    for id_ in ids:
        file = edit_file(bench.folder, name, id_)
        pixels = cv2.imread(str(file)) if file.is_file() else None
        if pixels is None:
            raise UserError(f"{file}: the edit that {id_}/{name} was scored by is gone; start in a new folder")
        yield pixels[..., ::-1]


def _counted(photos: Iterable[np.ndarray], bar: tqdm) -> Iterator[np.ndarray]:
    for photo in photos:
        yield photo
        bar.update()


def _features(sets: SetScores, photos: Iterator[np.ndarray]) -> np.ndarray:
    """float32 ``[N, 2048]``."""
    return np.array(list(sets.network.features(photos)), np.float32).reshape(-1, FEATURES)


def _names(sets: SetScores, sizes: dict[str, int]) -> list[str]:
    """How the values are to be cited, and the warning of small sets; a line a size."""
    notes = []
    for n in sorted(set(sizes.values()) - {0, 1}):
        of = "" if len(set(sizes.values())) == 1 else f" ({', '.join(a for a, m in sizes.items() if m == n)})"
        notes += [f"{text}{of}" for text in (sets.name(n), sets.warning(n)) if text]
    return notes
