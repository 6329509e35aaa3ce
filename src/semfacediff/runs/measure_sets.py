"""FID and KID at the end of an editing run, from the photos and the edits on disk, in the order of the data set."""

from collections.abc import Iterable, Iterator, Mapping

import cv2
import numpy as np
from tqdm import tqdm

from semfacediff.errors import UserError
from semfacediff.metrics.inception import FEATURES
from semfacediff.metrics.set_scores import SetScores
from semfacediff.records.features import write_features
from semfacediff.records.samples import ERROR
from semfacediff.runs.edit_rows import edit_file
from semfacediff.runs.editing_bench import EditingBench
from semfacediff.runs.prefetch import read_ahead


def measure_sets(bench: EditingBench, sets: SetScores) -> tuple[dict[str, dict], list[str]]:
    """(cell's name -> its columns of the summary, notes for the reader); features go to ``features/``.

    Everything is computed anew from what lies on the disk, so that a run that was interrupted has the numbers of one
    that was not.
    """
    edited = _edited(bench)
    wanted = [id_ for id_ in bench.faces.ids if any(id_ in ids for ids in edited.values())]
    total = len(wanted) + sum(map(len, edited.values()))
    with tqdm(total=total, desc="features", unit="photo") as bar:
        rows = _features(sets, _counted(_photos(bench, wanted), bar))
        write_features(bench.folder, "photos", wanted, rows)
        photos = dict(zip(wanted, rows, strict=True))
        edits = {}
        for cell, ids in edited.items():
            rows = _features(sets, _counted(_saved_edits(bench, cell, ids), bar))
            write_features(bench.folder, cell, ids, rows)
            edits[cell] = dict(zip(ids, rows, strict=True))
    return scored_sets(sets, photos, edits)


def scored_sets(
    sets: SetScores, photos: Mapping[str, np.ndarray], edits: Mapping[str, Mapping[str, np.ndarray]]
) -> tuple[dict[str, dict], list[str]]:
    """(cell's name -> its columns of the summary, notes for the reader).

    Args:
        photos: id -> float32 ``[2048]``. edits: cell's name -> id -> float32 ``[2048]``, in the order of the data set.
    """
    scores, notes = {}, []
    for cell, of_cell in edits.items():
        before, after = ([of[id_] for id_ in of_cell] for of in (photos, of_cell))
        stacked = (np.array(rows, np.float32).reshape(-1, FEATURES) for rows in (before, after))
        scores[cell], missing = sets.score(*stacked)
        if missing:
            empty = [column for column in sets.columns if column not in scores[cell]]
            notes.append(f"{', '.join(empty)} of {cell} {'are' if len(empty) > 1 else 'is'} empty: {missing}")
    return scores, notes + _names(sets, {cell: len(of_cell) for cell, of_cell in edits.items()})


def _edited(bench: EditingBench) -> dict[str, list[str]]:
    """Cell's name -> ids whose edit was scored, in the order of the data set."""
    rows = [row for row in bench.log.rows if row["status"] != ERROR and row["latency_s"] is not None]
    scored = {bench.log.key_of(row) for row in rows}
    return {c.name: [id_ for id_ in bench.faces.ids if bench.key_of(id_, c) in scored] for c in bench.cells}


def _photos(bench: EditingBench, ids: list[str]) -> Iterator[np.ndarray]:
    place = {id_: i for i, id_ in enumerate(bench.faces.ids)}
    for sample in read_ahead(bench.faces, [place[id_] for id_ in ids], bench.settings.runtime.workers):
        yield bench.at_working_size(sample.photo)


def _saved_edits(bench: EditingBench, cell: str, ids: list[str]) -> Iterator[np.ndarray]:
    for id_ in ids:
        file = edit_file(bench.folder, cell, id_)
        pixels = cv2.imread(str(file)) if file.is_file() else None
        if pixels is None:
            raise UserError(f"{file}: the edit that {id_}/{cell} was scored by is gone; start in a new folder")
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
