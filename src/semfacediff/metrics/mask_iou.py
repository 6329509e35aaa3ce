"""Does the edited region keep its place and shape, and how steadily does the judge see it?"""

from collections.abc import Mapping
from typing import ClassVar

import cv2
import numpy as np

from semfacediff.metrics.base import NO_RESIZE, OURS, EditPair, OfProtocol, declared

_QUALITY = 95


class MaskIoU(OfProtocol):
    """Intersection over union of the attribute's region in the judge's parses before and after the edit.

    Where both are empty the thesis counts 0; ``strict`` leaves the value missing. Missing too where the judge has no
    opinion of the edited photo.
    """

    columns = ("iou",)
    higher_is_better: ClassVar = {"iou": True}
    orders: ClassVar = {"iou": ("shift_3px < nothing", "photo_noise < nothing", "half_outside < nothing")}

    def score(self, pair: EditPair) -> dict[str, float | None]:
        if pair.after is None:
            return {"iou": None}
        found = region_iou(pair.before if pair.judged is None else pair.judged, pair.after)
        return {"iou": 0.0 if found is None and self.protocol == "thesis" else found}

    def identity(self) -> dict[str, object]:
        return declared(
            "iou",
            **OURS,
            bounds=[0, 1],
            unit="1",
            higher_is_better=True,
            resize=NO_RESIZE,
            input="label maps at the working size",
            both_empty=0 if self.protocol == "thesis" else None,
        )


def region_iou(before: np.ndarray, after: np.ndarray) -> float | None:
    """Of two bool ``[H, W]``; ``None`` where both are empty."""
    union = int((before | after).sum())
    return int((before & after).sum()) / union if union else None


class IoUFloor:
    """Mask IoU of the judge with itself, on the photo as it is and after a damage that changes no region.

    ``iou_floor_jpeg_95``: after JPEG at quality 95 (OpenCV). ``iou_floor_shift_1px``: after a shift by one pixel to the
    right, undone in the parse. A mask IoU above them says nothing of the edit: the judge itself is no steadier. One
    value a photo and attribute, whatever the edit; missing where the region is in neither parse.
    """

    columns = ("iou_floor_jpeg_95", "iou_floor_shift_1px")
    orders: ClassVar[Mapping[str, tuple[str, ...]]] = {}

    @classmethod
    def opened(cls, *_: object) -> "list[IoUFloor]":
        return [cls()]

    @classmethod
    def declared_orders(cls) -> Mapping[str, tuple[str, ...]]:
        return cls.orders

    @staticmethod
    def damaged(photo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The photo (uint8 ``[H, W, 3]`` RGB) under each of :attr:`columns`; a shift repeats the first column."""
        file = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1]
        jpeg = np.asarray(cv2.imdecode(file, cv2.IMREAD_COLOR))[..., ::-1]
        return np.ascontiguousarray(jpeg), np.concatenate([photo[:, :1], photo[:, :-1]], axis=1)

    @staticmethod
    def undone(labels: np.ndarray, parses: tuple[np.ndarray, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Parses of :meth:`damaged` photos where the photo's own parse ``labels`` lies, all ``[H, W]``.

        The column that the shift pushed out of the frame is that of ``labels``.
        """
        jpeg, shifted = parses
        return jpeg, np.concatenate([shifted[:, 1:], labels[:, -1:]], axis=1)

    def score(self, region: np.ndarray, damaged: tuple[np.ndarray, np.ndarray]) -> dict[str, float | None]:
        """Of bool ``[H, W]`` regions: in the photo's parse, and in those of :meth:`undone`."""
        return {column: region_iou(region, other) for column, other in zip(self.columns, damaged, strict=True)}

    def identity(self) -> dict[str, object]:
        return declared(
            ", ".join(self.columns),
            **OURS,
            bounds=[0, 1],
            unit="1",
            higher_is_better=None,
            resize=NO_RESIZE,
            input="8-bit RGB at the working size, the judge's parses of it",
        )
