"""How many faces a label map shows, and whose each pixel is. Judged from the parse alone, without a detector.

A face is a connected area of facial classes (skin, nose, eyes, brows, mouth, lips, glasses) that holds parts of at
least two kinds: eyes or glasses, brows, nose, mouth or lips. Skin alone (a hand, a shoulder that a parser takes for a
face) is none, half a face at the photo's edge is one. Faces that touch are told apart by their noses. Every other pixel
(hair, clothes, jewellery) belongs to the face that is nearest in terms of its own size.

Limits: two touching faces of which one shows no nose count as one; hair or clothes that overlap are parted half way;
and a parser trained on portraits may not see small faces at all.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from semfacediff.labels import LabelSpace

_KINDS = (("l_eye", "r_eye", "eye_g"), ("l_brow", "r_brow"), ("nose",), ("mouth", "u_lip", "l_lip"))
_FACIAL = ("skin", *(name for kind in _KINDS for name in kind))
_WORKING_PX = 512
_MIN_SHARE = 0.005
"""Of the photo; a smaller area is no face that could be edited."""
_MIN_PART = 0.002
"""Of the face; fewer pixels of a kind are noise."""
_NOSE_SHARE, _NOSE_DISTANCE = 0.25, 0.4
"""Another nose has this share of the largest one's area, and lies this far away, in square roots of the face's area."""
DOMINANT = 0.15
"""Faces below this share of the largest one's area do not compete with it."""


@dataclass(frozen=True)
class Faces:
    """The faces of one photo.

    Attributes:
        shares: area of each face as a share of the photo, 0..1, largest first.
        boxes: rows and columns that each face spans.
        owner: uint8 ``[H, W]``: index of the face that each pixel belongs to; all 0 where there is no face.
    """

    shares: tuple[float, ...]
    boxes: tuple[tuple[slice, slice], ...]
    owner: np.ndarray

    @property
    def competing(self) -> int:
        """Faces large enough to be meant."""
        return sum(share >= DOMINANT * self.shares[0] for share in self.shares)

    def only(self, labels: np.ndarray, face: int = 0) -> np.ndarray:
        """``labels`` with everything that is another face's turned into background (0)."""
        return np.where(self.owner == face, labels, 0)


def find_faces(labels: np.ndarray, space: LabelSpace) -> Faces:
    """The faces in a label map, integers ``[H, W]`` in ``space``."""
    scale = max(1.0, max(labels.shape) / _WORKING_PX)
    small = _nearest(labels, tuple(max(1, round(n / scale)) for n in labels.shape))
    masks = sorted(_face_masks(small, space), key=lambda mask: -int(mask.sum()))
    if not masks:
        return Faces((), (), np.zeros(labels.shape, np.uint8))
    distances = [cv2.distanceTransform((~m).astype(np.uint8), cv2.DIST_L2, 5) / m.sum() ** 0.5 for m in masks]
    owner = _nearest(np.argmin(distances, axis=0).astype(np.uint8), labels.shape)
    boxes = tuple(_box(_nearest(m, labels.shape)) for m in masks)
    return Faces(tuple(float(m.mean()) for m in masks), boxes, owner)


def _box(mask: np.ndarray) -> tuple[slice, slice]:
    rows, columns = (np.flatnonzero(mask.any(axis)) for axis in (1, 0))
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _nearest(array: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    rows, columns = ((2 * np.arange(n) + 1) * m // (2 * n) for n, m in zip(shape, array.shape, strict=True))
    return array[np.ix_(rows, columns)]


def _is_one_of(labels: np.ndarray, names: tuple[str, ...], space: LabelSpace) -> np.ndarray:
    return np.isin(labels, [space.classes.index(name) for name in names if name in space.classes])


def _face_masks(labels: np.ndarray, space: LabelSpace) -> list[np.ndarray]:
    """bool ``[H, W]`` of every face."""
    facial = _is_one_of(labels, _FACIAL, space)
    # Strands of hair and the rims of glasses cut a face into pieces that lie a few pixels apart.
    width = 2 * round(max(labels.shape) / 100) + 1
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width, width))
    joined = cv2.morphologyEx(np.pad(facial.astype(np.uint8), width), cv2.MORPH_CLOSE, kernel)
    joined = joined[width:-width, width:-width]
    n, areas = cv2.connectedComponents(joined, connectivity=8)
    kinds = [_is_one_of(labels, kind, space) for kind in _KINDS]
    masks = []
    for i in range(1, n):
        area = (areas == i) & facial
        masks += [m for m in _parted(area, kinds[2]) if _is_face(m, kinds)]
    return masks


def _is_face(mask: np.ndarray, kinds: list[np.ndarray]) -> bool:
    size = int(mask.sum())
    if size < _MIN_SHARE * mask.size:
        return False
    return sum(int((mask & kind).sum()) >= max(1, _MIN_PART * size) for kind in kinds) >= 2


def _parted(area: np.ndarray, noses: np.ndarray) -> list[np.ndarray]:
    """``area`` itself, or its parts if it has several noses."""
    n, labelled, stats, centres = cv2.connectedComponentsWithStats((area & noses).astype(np.uint8), connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    if n <= 2:
        return [area]
    reach = _NOSE_DISTANCE * float(area.sum()) ** 0.5
    found: list[int] = []
    for i in np.argsort(-sizes, kind="stable"):
        far = all(np.linalg.norm(centres[1 + i] - centres[1 + j]) >= reach for j in found)
        if sizes[i] >= _NOSE_SHARE * sizes.max() and far:
            found.append(int(i))
    if len(found) == 1:
        return [area]
    distances = [cv2.distanceTransform((labelled != 1 + i).astype(np.uint8), cv2.DIST_L2, 5) for i in found]
    nearest = np.argmin(distances, axis=0)
    return [area & (nearest == k) for k in range(len(found))]
