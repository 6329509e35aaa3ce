"""Inception's features beside a run, and those of a whole data set from runs over its parts.

``features/photos.npz`` and ``features/<name>.npz``, of an attribute's edits or a task's generated photos, hold ``ids``
and float32 ``features [N, D]``. What a photo's features are depends on that photo alone, so that the rows of all parts,
in the data set's order, are to the last bit the rows of one run over all of it, and FID and KID of them are its FID and
KID. Moments of parts add up too, see :class:`semfacediff.metrics.moments.Moments`.
"""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semfacediff.errors import UserError
from semfacediff.records.writing import write_bytes

PHOTOS = "photos"


def feature_file(folder: Path, name: str) -> Path:
    """Where a run keeps the features of its photos (``photos``), or of the edits or generated photos of a name."""
    return folder / "features" / f"{name}.npz"


def write_features(folder: Path, name: str, ids: Sequence[str], rows: np.ndarray) -> None:
    """Keep float32 ``[N, D]`` features, row by row of ``ids``."""
    buffer = io.BytesIO()
    np.savez(buffer, ids=np.array(ids, dtype=np.str_), features=rows)
    write_bytes(feature_file(folder, name), buffer.getvalue())


def read_features(folder: Path, name: str) -> dict[str, np.ndarray]:
    """Id -> float32 ``[D]``, in the order of the run.

    Raises:
        UserError: not there, damaged, or an id occurs twice.
    """
    file = feature_file(folder, name)
    try:
        with np.load(file) as kept:
            ids, rows = kept["ids"].tolist(), kept["features"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as e:
        raise UserError(
            f"{file}: no features can be read ({type(e).__name__}); repeat the run with fid or kid in metrics.columns"
        ) from e
    if len(set(ids)) < len(ids) or rows.shape[:1] != (len(ids),) or rows.ndim != 2:
        raise UserError(
            f"{file}: {len(ids)} ids and features {list(rows.shape)} do not belong together; repeat the run"
        )
    return dict(zip(ids, rows, strict=True))


def merged_features(folders: Sequence[Path], name: str) -> tuple[list[str], np.ndarray]:
    """(ids, float32 ``[N, D]``) of all runs together, sorted by id as data sets are.

    Raises:
        UserError: a run has none, or two runs measured the same photo.
    """
    merged: dict[str, np.ndarray] = {}
    for folder in folders:
        found = read_features(folder, name)
        twice = sorted(merged.keys() & found.keys())
        if twice:
            raise UserError(
                f"{feature_file(folder, name)}: '{twice[0]}' (of {len(twice)}) was measured by another run too; parts "
                f"of a data set must not overlap"
            )
        merged |= found
    ids = sorted(merged)
    width = {row.shape for row in merged.values()}
    if len(width) > 1:
        raise UserError(f"features/{name}.npz: the runs' features have different lengths; measure all of them alike")
    return ids, np.array([merged[id_] for id_ in ids], np.float32).reshape(len(ids), *next(iter(width), (0,)))
