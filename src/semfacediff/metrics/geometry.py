"""Did the parts of the face that were not edited stay where they were? And where is the face turned?"""

from typing import ClassVar

import cv2
import numpy as np

from semfacediff.labels import LabelSpace, attribute_classes
from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, Metric, declared

FACE_PARTS = tuple("skin nose l_eye r_eye l_brow r_brow l_ear r_ear mouth u_lip l_lip".split())
"""Parts whose places make a face's shape. Hair, clothes and what is worn are not part of it."""
MIN_PART = 1e-4
"""Share of the photo under which a part is a speck whose centroid says nothing."""


def centroids(labels: np.ndarray, space: LabelSpace, parts: tuple[str, ...] = FACE_PARTS) -> dict[str, np.ndarray]:
    """Part -> centroid float64 ``(x, y)`` in pixels, of the parts that cover at least :data:`MIN_PART` of the photo.

    Args:
        labels: integer ``[H, W]`` in ``space``.
    """
    labels = labels.astype(np.uint8)
    found = {}
    for part in parts:
        if part not in space.classes:
            continue
        moments = cv2.moments((labels == space.index(part)).view(np.uint8), binaryImage=True)
        if moments["m00"] >= max(1, MIN_PART * labels.size):
            found[part] = np.array([moments["m10"], moments["m01"]]) / moments["m00"]
    return found


class GeometryShift(Metric):
    """How far the centroids of the unedited face parts moved: mean over the parts, in % of the distance of the eyes.

    Parts are those of :data:`FACE_PARTS` that the attribute does not name and that both parses hold; the distance is
    the one between the centroids of the eyes in the parse of the photo. ``parts_lost`` counts the parts that only the
    parse of the photo holds, for a part that is gone has no shift. Missing where the parser has no opinion of the edit,
    sees fewer than two eyes, or has no part in common. The same under both protocols.
    """

    columns = ("geometry_shift_pct", "parts_lost")
    higher_is_better: ClassVar = {"geometry_shift_pct": False, "parts_lost": False}
    orders: ClassVar = {
        "geometry_shift_pct": ("nothing < shift_1px < shift_3px", "nothing < photo_noise"),
        "parts_lost": ("nothing < half_outside",),
    }

    def score(self, pair: EditPair) -> dict[str, float | None]:
        if pair.labels_before is None or pair.labels_after is None:
            return {"geometry_shift_pct": None, "parts_lost": None}
        before, after = (centroids(labels, pair.space) for labels in (pair.labels_before, pair.labels_after))
        unedited = before.keys() - set(attribute_classes(pair.attribute))
        kept = [part for part in FACE_PARTS if part in unedited and part in after]
        lost = float(len(unedited) - len(kept))
        if not kept or not {"l_eye", "r_eye"} <= before.keys():
            return {"geometry_shift_pct": None, "parts_lost": lost}
        between_eyes = np.linalg.norm(before["l_eye"] - before["r_eye"])
        shifts = [np.linalg.norm(after[part] - before[part]) for part in kept]
        return {"geometry_shift_pct": float(100 * np.mean(shifts) / between_eyes), "parts_lost": lost}

    def identity(self) -> dict[str, object]:
        return declared(
            ", ".join(self.columns),
            **OURS,
            bounds={"geometry_shift_pct": [0, None], "parts_lost": [0, len(FACE_PARTS)]},
            unit={"geometry_shift_pct": "% of the distance between the eyes", "parts_lost": "parts"},
            higher_is_better=False,
            resize=NO_RESIZE,
            input="label maps before and after",
            parts=", ".join(FACE_PARTS),
        )


METRIC = GeometryShift
