"""Networks that turn an aligned face into numbers which are near for one person and far for two."""

import importlib.metadata
import threading
from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np

from semfacediff.errors import UserError
from semfacediff.faces.alignment import MEAN_POINTS, aligned, places, similarity
from semfacediff.faces.detection import dlib_module, model_file
from semfacediff.weight_files import file_digest, onnx_session

RESNET = "dlib_face_recognition_resnet_model_v1.dat"
_ARCFACE_SIZE = 112
_ARCFACE_EYES = np.array([(73.5318, 51.5014), (38.2946, 51.6963)])
"""Centres of the eyes at the viewer's right and left in the 112 px square on which ArcFace's networks are trained."""


class FaceEmbedding(ABC):
    """A network and the aligned square that it takes.

    Attributes:
        size: of the square, px. points: float64 ``[5, 2]``, where the points of a face go in it, pixel indices.
        neutral: RGB that is 0 to the network, the colour of what is to be hidden from it.
        distance_of: what ``distance`` is, for records. bounds: its lowest and highest value.
        facts: implementation, version, weights and what else decides the numbers, as the record names them.
    """

    size: int
    points: np.ndarray
    neutral: tuple[int, int, int]
    distance_of: str
    bounds: tuple[float, float | None]
    facts: dict[str, str]

    def frame(self, points: np.ndarray) -> np.ndarray:
        """float64 ``[2, 3]``: from a photo in which a face has the five ``points`` to the square."""
        return similarity(points, self.points)

    def chip(self, photo: np.ndarray, points: np.ndarray) -> np.ndarray:
        """uint8 ``[size, size, 3]``: the square from a photo in which the face has the five ``points``."""
        return aligned(photo, self.frame(points), self.size)

    @abstractmethod
    def embed(self, chip: np.ndarray) -> np.ndarray:
        """float64 ``[D]`` of a uint8 RGB ``[size, size, 3]``."""

    @abstractmethod
    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        """Of two embeddings; 0 where they are equal."""


class DlibFace(FaceEmbedding):
    """dlib's ResNet: 128 numbers, Euclidean distance (0.6 is its authors' threshold for one person).

    Raises:
        MissingFacesError: the extra ``faces`` is not installed.
    """

    size, points = 150, places(150, 0.25)
    neutral = (123, 117, 104)
    distance_of, bounds = "Euclidean distance of dlib's 128 numbers", (0, None)

    def __init__(self):
        dlib, file = dlib_module(), model_file(RESNET)
        self._net = dlib.face_recognition_model_v1(str(file))
        self._lock = threading.Lock()  # the network keeps its activations
        self.facts = {
            "implementation": "dlib",
            "version": importlib.metadata.version("dlib-bin"),
            "weights": f"sha256:{file_digest(file)}",
            "input": "8-bit RGB, 150 px",
        }

    def embed(self, chip: np.ndarray) -> np.ndarray:
        with self._lock:
            return np.array(self._net.compute_face_descriptor(np.ascontiguousarray(chip)))

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.linalg.norm(a - b))


class ArcFace(FaceEmbedding):
    """Any ArcFace network in an ONNX file: 1 - cosine of its embeddings.

    It takes one RGB picture of 112 px, ``[N, 3, 112, 112]`` or ``[N, 112, 112, 3]``. dlib's five points are not
    ArcFace's, so a face is placed by where dlib's mean face has them once its eyes lie on ArcFace's.

    Args:
        values: ``signed``: (x - 127.5) / 127.5, as the networks are trained; ``bytes``: 0 to 255, for a graph that
            begins with this step.

    Raises:
        UserError: no such file, onnxruntime is not installed or cannot open it, or its input is another.
    """

    size = _ARCFACE_SIZE
    neutral = (127, 127, 127)
    distance_of, bounds = "1 - cosine", (0, 2)

    def __init__(self, file: Path, values: str = "signed"):
        self.points = _arcface_points()
        if not file.is_file():
            raise UserError(f"weights.arcface: no file at {file}; correct the path")
        of, instead = "metrics.identity.backend=arcface", "metrics.identity.backend=dlib"
        self._session, self._values = onnx_session(file, of, instead, "name an ONNX file in weights.arcface"), values
        (given, *others), outputs = self._session.get_inputs(), self._session.get_outputs()
        self._input, self._output, shape = given.name, outputs[0].name, given.shape
        sides = {"first": shape[1:] == [3, self.size, self.size], "last": shape[1:] == [self.size, self.size, 3]}
        if others or len(shape) != 4 or given.type != "tensor(float)" or not any(sides.values()):
            raise UserError(
                f"weights.arcface: {file} takes {given.type} {shape}; expected one float input [N, 3, 112, 112] or "
                f"[N, 112, 112, 3]; name an ArcFace network for 112 px"
            )
        self._channels_first = sides["first"]
        self.facts = {
            "implementation": "onnxruntime",
            "version": importlib.metadata.version("onnxruntime"),
            "weights": f"sha256:{file_digest(file)}",
            "input": f"RGB, 112 px, {'(x - 127.5) / 127.5' if values == 'signed' else '0 to 255'}",
        }

    def embed(self, chip: np.ndarray) -> np.ndarray:
        x = chip.astype(np.float32)[None]
        x = (x - 127.5) / 127.5 if self._values == "signed" else x
        x = np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if self._channels_first else x
        numbers = self._session.run([self._output], {self._input: x})[0].astype(np.float64).ravel()
        if not np.isfinite(numbers).all() or not (length := np.linalg.norm(numbers)):
            raise ValueError("identity: the embedding is zero or not finite; weights.arcface is damaged")
        return numbers / length

    def distance(self, a: np.ndarray, b: np.ndarray) -> float:
        return float(np.sum((a - b) ** 2) / 2)  # 1 - cosine of unit vectors, 0 to the bit for equal ones


def _arcface_points() -> np.ndarray:
    """float64 ``[5, 2]``: dlib's mean face with its eyes on ArcFace's."""
    eyes = MEAN_POINTS[:4].reshape(2, 2, 2).mean(1)
    matrix = similarity(eyes, _ARCFACE_EYES)
    return MEAN_POINTS @ matrix[:, :2].T + matrix[:, 2]
