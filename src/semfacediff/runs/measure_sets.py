"""FID and KID at the end of an editing run, from the photos and the edits on disk, in the order of the data set."""

import io
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from semfacediff.errors import UserError
from semfacediff.metrics.inception import FEATURES
from semfacediff.metrics.set_scores import SetScores
from semfacediff.records.samples import ERROR
from semfacediff.records.writing import write_bytes
from semfacediff.runs.editing_bench import EditingBench, edit_file
from semfacediff.runs.prefetch import read_ahead


def measure_sets(bench: EditingBench, sets: SetScores) -> tuple[dict[str, dict], list[str]]:
    """(attribute -> its columns of the summary, notes for the reader); features go to ``features/``.

    Everything is computed anew from what lies on the disk, so that a run that was interrupted has the numbers of one
    that was not.
    """
    edited = _edited(bench)
    wanted = [id_ for id_ in bench.faces.ids if any(id_ in ids for ids in edited.values())]
    total = len(wanted) + sum(map(len, edited.values()))
    with tqdm(total=total, desc="features", unit="photo") as bar:
        rows = _features(sets, _counted(_photos(bench, wanted), bar))
        _keep(bench.folder, "photos", wanted, rows)
        photos = dict(zip(wanted, rows, strict=True))
        scores, notes = {}, []
        for attribute, ids in edited.items():
            edits = _features(sets, _counted(_saved_edits(bench, attribute, ids), bar))
            _keep(bench.folder, attribute, ids, edits)
            before = np.array([photos[id_] for id_ in ids], np.float32).reshape(-1, FEATURES)
            scores[attribute], missing = sets.score(before, edits)
            if missing:
                notes.append(f"{', '.join(sets.columns)} of {attribute} are empty: {missing}")
    return scores, notes + _names(sets, {a: len(ids) for a, ids in edited.items()})


def _edited(bench: EditingBench) -> dict[str, list[str]]:
    """Attribute -> ids whose edit was scored, in the order of the data set."""
    scored = {
        (row["sample_id"], row["attribute"])
        for row in bench.log.rows
        if row["status"] != ERROR and row["latency_s"] is not None
    }
    return {a: [id_ for id_ in bench.faces.ids if (id_, a) in scored] for a in bench.settings.attributes}


def _photos(bench: EditingBench, ids: list[str]) -> Iterator[np.ndarray]:
    place = {id_: i for i, id_ in enumerate(bench.faces.ids)}
    for sample in read_ahead(bench.faces, [place[id_] for id_ in ids], bench.settings.runtime.workers):
        yield bench.at_working_size(sample.photo)


def _saved_edits(bench: EditingBench, attribute: str, ids: list[str]) -> Iterator[np.ndarray]:
    for id_ in ids:
        file = edit_file(bench.folder, attribute, id_)
        pixels = cv2.imread(str(file)) if file.is_file() else None
        if pixels is None:
            raise UserError(f"{file}: the edit that {id_}/{attribute} was scored by is gone; start in a new folder")
        yield pixels[..., ::-1]


def _counted(photos: Iterable[np.ndarray], bar: tqdm) -> Iterator[np.ndarray]:
    for photo in photos:
        yield photo
        bar.update()


def _features(sets: SetScores, photos: Iterator[np.ndarray]) -> np.ndarray:
    """float32 ``[N, 2048]``."""
    return np.array(list(sets.network.features(photos)), np.float32).reshape(-1, FEATURES)


def _keep(folder: Path, name: str, ids: list[str], rows: np.ndarray) -> None:
    """``features/<name>.npz``: what runs over parts of a data set are joined by."""
    buffer = io.BytesIO()
    np.savez(buffer, ids=np.array(ids, dtype=np.str_), features=rows)
    write_bytes(folder / "features" / f"{name}.npz", buffer.getvalue())


def _names(sets: SetScores, sizes: dict[str, int]) -> list[str]:
    """How the values are to be cited, and the warning of small sets; a line a size."""
    notes = []
    for n in sorted(set(sizes.values()) - {0, 1}):
        of = "" if len(set(sizes.values())) == 1 else f" ({', '.join(a for a, m in sizes.items() if m == n)})"
        notes += [f"{text}{of}" for text in (sets.name(n), sets.warning(n)) if text]
    return notes
