"""Which classes does an edit disturb outside its region?"""

from collections.abc import Iterable
from typing import ClassVar

import numpy as np
import pandas as pd

from semfacediff.labels import LabelSpace
from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, OfProtocol, declared
from semfacediff.metrics.outside import outside
from semfacediff.metrics.segmentation import confusion_matrix

LEAKAGE_COLUMNS = ("attribute", "before", "after", "pixels")


class Leakage(OfProtocol):
    """Confusion of the parse before (rows) against the parse after the edit (columns), over the outside.

    One cell of text an edit, ``"1>1:5210 1>13:7"``: label before > label after : pixels, in the parser's label space.
    Counts add: over samples, over runs of parts of a data set. Missing where the parser has no opinion of the edit.

    Args:
        protocol: ``thesis`` or ``strict``; what counts as outside.
    """

    columns = ("leakage",)
    higher_is_better: ClassVar = {"leakage": None}

    def score(self, pair: EditPair) -> dict[str, str | None]:
        if pair.labels_before is None or pair.labels_after is None:
            return {"leakage": None}
        kept = outside(pair.blend, self.protocol)
        return {"leakage": written(confusion_matrix(pair.labels_before[kept], pair.labels_after[kept], pair.space.n))}

    def identity(self) -> dict[str, object]:
        return declared(
            "leakage",
            **OURS,
            bounds=[0, None],
            unit="pixels",
            higher_is_better=None,
            resize=NO_RESIZE,
            protocol=self.protocol,
            input="label maps before and after",
        )


def written(confusion: np.ndarray) -> str:
    """An int64 ``[n, n]`` confusion as text, cells other than 0 in the order of rows; ``""`` where nothing is left."""
    return " ".join(f"{a}>{b}:{confusion[a, b]}" for a, b in np.argwhere(confusion))


def pooled(cells: Iterable[str], n: int) -> np.ndarray:
    """int64 ``[n, n]``: sum of confusions that :func:`written` wrote."""
    text = " ".join(filter(None, cells)).replace(">", " ").replace(":", " ")  # numpy reads spaces alone as -1
    numbers = np.fromstring(text, np.int64, sep=" ").reshape(-1, 3)
    sums = np.zeros((n, n), np.int64)
    np.add.at(sums, (numbers[:, 0], numbers[:, 1]), numbers[:, 2])
    return sums


def leakage_table(samples: pd.DataFrame, space: LabelSpace) -> pd.DataFrame:
    """One row for each attribute and pair of classes that occurs: ``attribute, before, after, pixels``.

    Args:
        samples: rows with ``attribute`` and ``leakage``; rows without a value enter nothing.
    """
    rows = []
    for attribute, cells in samples[samples["leakage"].notna()].groupby("attribute", sort=False)["leakage"]:
        sums = pooled(cells, space.n)
        rows += [(attribute, space.classes[a], space.classes[b], int(sums[a, b])) for a, b in np.argwhere(sums)]
    return pd.DataFrame(rows, columns=list(LEAKAGE_COLUMNS))


METRIC = Leakage
