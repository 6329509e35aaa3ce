"""Where the faces of a photo are, and five points of each, by dlib."""

import importlib
import importlib.util
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from semfacediff.errors import UserError

FIVE_POINTS = "shape_predictor_5_face_landmarks.dat"
CNN_DETECTOR = "mmod_human_face_detector.dat"
HOG_SIDE, CNN_SIDE = 1024, 512
"""Long sides to which larger photos are reduced for the two detectors, which find faces of 80 px and more there."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom in px; the last two are outside. It may reach beyond the photo."""


class MissingFacesError(UserError):
    """The extra ``faces`` is not installed; ``metrics.on_missing=skip`` turns this into empty columns."""


@dataclass(frozen=True)
class Face:
    """One face.

    Attributes:
        box: about from the brows to the chin.
        points: float64 ``[5, 2]``, x and y in pixel indices: outer and inner corner of the eye at the viewer's right,
            outer and inner corner of the one at the left, base of the nose.
        thorough: whether the CNN detector found it.
    """

    box: Box
    points: np.ndarray
    thorough: bool = False

    @property
    def area(self) -> int:
        left, top, right, bottom = self.box
        return (right - left) * (bottom - top)


def model_file(name: str) -> Path:
    """A file of the package ``face-recognition-models``, which is not imported: that would need ``pkg_resources``.

    Raises:
        MissingFacesError: it is not installed.
    """
    spec = importlib.util.find_spec("face_recognition_models")
    folders = [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    found = next((file for folder in folders if (file := folder / "models" / name).is_file()), None)
    if found is None:
        raise _missing(f"face-recognition-models ({name})")
    return found


def _missing(package: str) -> MissingFacesError:
    return MissingFacesError(
        f"faces are found by dlib, and the package {package} is not here; install it with "
        f"pip install 'semfacediff[faces]'"
    )


def dlib_module() -> Any:
    """dlib; a :class:`MissingFacesError` where it is not installed."""
    try:
        return importlib.import_module("dlib")
    except ImportError as e:
        raise _missing("dlib-bin") from e


class Detector:
    """Finds faces; threads may share it.

    The HOG detector takes 0.03 s for a photo of 512 px, the CNN detector 2.5 s.

    Args:
        thorough: whether the CNN detector looks where the HOG detector finds nothing.

    Raises:
        MissingFacesError: the extra ``faces`` is not installed.
    """

    def __init__(self, thorough: bool = True):
        self._dlib, points, cnn = dlib_module(), model_file(FIVE_POINTS), model_file(CNN_DETECTOR)
        self._hog = self._dlib.get_frontal_face_detector()
        self._points = self._dlib.shape_predictor(str(points))
        self._cnn = self._dlib.cnn_face_detection_model_v1(str(cnn)) if thorough else None
        self._lock = threading.Lock()  # dlib's detectors and networks write into themselves

    def faces(self, photo: np.ndarray) -> list[Face]:
        """Those of a photo (uint8 ``[H, W, 3]`` RGB), the largest first."""
        photo = np.ascontiguousarray(photo)
        with self._lock:
            found = _boxes(self._hog, photo, HOG_SIDE)
            thorough = not found
            if (cnn := self._cnn) and not found:
                found = _boxes(lambda x, n: [one.rect for one in cnn(x, n)], photo, CNN_SIDE)
            faces = [Face(box, self._five_points(photo, box), thorough) for box in found]
        return sorted(faces, key=lambda face: face.area, reverse=True)

    def _five_points(self, photo: np.ndarray, box: Box) -> np.ndarray:
        left, top, right, bottom = box
        shape = self._points(photo, self._dlib.rectangle(left, top, right - 1, bottom - 1))
        return np.array([(part.x, part.y) for part in shape.parts()], np.float64)


def _boxes(find: Callable[[np.ndarray, int], Sequence[Any]], photo: np.ndarray, side: int) -> list[Box]:
    """What ``find`` (dlib's rectangles) finds in a photo reduced to a long side of ``side``, in pixels of the photo."""
    scale = min(1.0, side / max(photo.shape[:2]))
    size = tuple(max(1, round(scale * n)) for n in photo.shape[1::-1])
    small = photo if scale == 1 else cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    edges = ((r.left(), r.top(), r.right() + 1, r.bottom() + 1) for r in find(small, 0))
    return [(round(a / scale), round(b / scale), round(c / scale), round(d / scale)) for a, b, c, d in edges]
