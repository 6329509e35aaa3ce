"""Is it still the same person? Distance of face embeddings, and its place between one person's and two persons'."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from semfacediff import config
from semfacediff.errors import UserError
from semfacediff.faces.alignment import aligned
from semfacediff.faces.detection import Box, Detector, Face, MissingFacesError
from semfacediff.metrics.base import EditPair, Metric, declared
from semfacediff.metrics.cache import LRUCache, content
from semfacediff.metrics.face_embedding import ArcFace, DlibFace, FaceEmbedding
from semfacediff.metrics.needs import Needs
from semfacediff.metrics.weights import MissingWeightsError
from semfacediff.weight_files import fingerprint

OF_DLIB = Path(__file__).with_name("identity_dlib.json")
"""Calibration of dlib's network, made by ``benchmarks/identity.py``."""
WHOLE = "whole"
LEAST_VISIBLE = 0.2
"""Share of the aligned square below which, with the region hidden, nothing is said of the person."""
_LEAST_OVERLAP = 0.2
"""Intersection over union from which on a face of the edit is the one in the photo."""
_KEPT = 8


@dataclass(frozen=True)
class Calibration:
    """Distances to compare with, by embedding network.

    Attributes:
        weights: of the network, as records name them.
        anchors: ``whole``, or the attribute whose region is hidden -> median distances (one person's photos, two's).
        digest: of the file.
    """

    weights: str
    anchors: Mapping[str, tuple[float, float]]
    digest: str

    def score(self, distance: float, of: str) -> float | None:
        """1 at the distance of one person's photos and below, 0 at that of two persons and above, linear between."""
        if of not in self.anchors:
            return None
        same, different = self.anchors[of]
        return float(np.clip((different - distance) / (different - same), 0, 1))


def read_calibration(file: Path, network: FaceEmbedding) -> Calibration:
    """What ``benchmarks/identity.py`` wrote.

    Raises:
        UserError: it is no such file, or was made with other weights.
    """
    try:
        plain = json.loads(file.read_bytes())
        anchors = {of: (float(a["same"]), float(a["different"])) for of, a in plain["anchors"].items()}
        weights, ordered = plain["weights"], all(0 <= same < different for same, different in anchors.values())
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise UserError(f"{file}: no calibration of identity ({type(e).__name__}); make it with {_how(file)}") from e
    if not ordered:
        raise UserError(f"{file}: one person's distance must be below that of two; make it with {_how(file)}")
    if weights != network.facts["weights"]:
        raise UserError(
            f"{file}: made with weights {weights}, the network has {network.facts['weights']}; make it again with "
            f"{_how(file)}"
        )
    return Calibration(weights, anchors, fingerprint(file))


def calibration_file(weights: Path) -> Path:
    """Where the calibration of an ArcFace file lies: beside it."""
    return weights.with_name(f"{weights.name}.json")


def _how(file: Path) -> str:
    network = "" if file == OF_DLIB else f" --arcface {file.with_suffix('')}"
    return f"'python benchmarks/identity.py{network} data=...'"


class Identity(Metric):
    """Five columns, from the face of the edit and the same face of the photo, aligned by five points.

    - ``identity_distance``: distance of their embeddings, 0 for equal photos; what it is stands in :meth:`identity`.
    - ``identity``: its place between one person's photos (1: as near as after JPEG, a change of light or of size, or
      nearer) and those of two persons (0), see :class:`Calibration`. Missing without calibration.
    - ``identity_outside_distance``, ``identity_outside``: the same with the region hidden in both, for a recoloured
      region moves embeddings without changing the person. Missing where it leaves less than :data:`LEAST_VISIBLE` of
      the square.
    - ``no_face``: where no face was found (``photo``, ``edit`` or ``photo, edit``); the others are then missing.

    The region is where the blend mask is not 0. Of several faces in the photo the one with most of the region around it
    counts; in the edit the one that overlaps it. The same under both protocols.

    Args:
        network: default dlib's. calibration: default the one in the package, for dlib's network.

    Raises:
        MissingFacesError: the extra ``faces`` is not installed.
    """

    columns = ("identity", "identity_distance", "identity_outside", "identity_outside_distance", "no_face")
    higher_is_better: ClassVar = {
        "identity": True,
        "identity_distance": False,
        "identity_outside": True,
        "identity_outside_distance": False,
        "no_face": None,
    }
    orders: ClassVar = {
        "identity": ("other_face < nothing",),
        "identity_distance": ("nothing < jpeg_50 < other_face", "nothing < photo_noise"),
        "identity_outside": ("photo_noise < nothing",),
        "identity_outside_distance": ("nothing < jpeg_50 < photo_noise",),
    }

    @classmethod
    def opened(cls, name: str, options: Mapping[str, Any], needs: Needs) -> Sequence[Metric]:
        try:
            return [open_identity(needs.settings.metrics.identity, needs.settings.weights.arcface)]
        except (MissingFacesError, MissingWeightsError) as e:
            needs.missing(e, name)
            return []

    def __init__(self, network: FaceEmbedding | None = None, calibration: Calibration | None = None):
        self.detector = Detector()
        self.network = network or DlibFace()
        self.calibration = read_calibration(OF_DLIB, self.network) if network is None else calibration
        self._faces: LRUCache[list[Face]] = LRUCache(_KEPT)
        self._numbers: LRUCache[np.ndarray] = LRUCache(4 * _KEPT)

    def score(self, pair: EditPair) -> dict[str, float | str | None]:
        before, after = self._found(pair)
        if before is None or after is None:
            where = ", ".join(name for name, face in (("photo", before), ("edit", after)) if face is None)
            return dict.fromkeys(self.columns) | {"no_face": where}
        faces = (pair.photo, before), (pair.edit, after)
        whole = self.network.distance(*(self._embedded(photo, face, None) for photo, face in faces))
        scores = {"identity_distance": whole, "identity": self._placed(whole, WHOLE)}
        hidden = [self._covered(pair.blend, face) for _, face in faces]
        if min(1 - one.mean() for one in hidden) < LEAST_VISIBLE:
            return dict.fromkeys(self.columns) | scores
        outside = self.network.distance(
            *(self._embedded(photo, face, cover) for (photo, face), cover in zip(faces, hidden, strict=True))
        )
        scores |= {"identity_outside_distance": outside, "identity_outside": self._placed(outside, pair.attribute)}
        return dict.fromkeys(self.columns) | scores

    def _found(self, pair: EditPair) -> tuple[Face | None, Face | None]:
        """The face of the photo, and the same one of the edit."""
        of_photo, of_edit = (
            self._faces.get(content(photo), partial(self.detector.faces, photo)) for photo in (pair.photo, pair.edit)
        )
        before = edited_face(of_photo, pair.blend > 0)
        if before is None:
            return None, of_edit[0] if of_edit else None
        same = max(of_edit, key=lambda face: overlap(face.box, before.box), default=None)
        return before, same if same and overlap(same.box, before.box) >= _LEAST_OVERLAP else None

    def _covered(self, blend: np.ndarray, face: Face) -> np.ndarray:
        """bool ``[size, size]``: what of the face's square shows the region."""
        region = np.where(blend > 0, np.uint8(255), np.uint8(0))
        return aligned(region, self.network.frame(face.points), self.network.size) > 0

    def _embedded(self, photo: np.ndarray, face: Face, hidden: np.ndarray | None) -> np.ndarray:
        """The numbers of a face, with what is ``hidden`` of its square in the neutral colour."""

        def made() -> np.ndarray:
            chip = self.network.chip(photo, face.points)
            return self.network.embed(chip if hidden is None else hide(chip, hidden, self.network))

        key = content(photo), face.box, None if hidden is None else content(hidden)
        return self._numbers.get(key, made)

    def _placed(self, distance: float, of: str) -> float | None:
        return self.calibration.score(distance, of) if self.calibration else None

    def identity(self) -> dict[str, object]:
        bounds: dict[str, Sequence[float | None]] = {"no_face": [None, None]}
        bounds |= {c: self.network.bounds if c.endswith("distance") else (0, 1) for c in self.columns[:-1]}
        return declared(
            ", ".join(self.columns),
            **self.network.facts,
            bounds=bounds,
            unit="1",
            higher_is_better=dict(self.higher_is_better),
            resize=f"similarity of five points to {self.network.size} px, area average",
            distance=self.network.distance_of,
            detection="dlib HOG, its CNN where that finds none",
            calibration=self.calibration.digest if self.calibration else None,
            hidden=f"blend mask > 0, as RGB {list(self.network.neutral)}",
        )


def open_identity(settings: config.IdentityConfig, arcface: str | None) -> Identity:
    """The metric as ``metrics.identity`` and ``weights.arcface`` describe it.

    Raises:
        MissingFacesError: the extra ``faces`` is not installed.
        MissingWeightsError: the backend is ArcFace, and no file is named.
        UserError: the file or its calibration is of no use.
    """
    if settings.backend == "dlib":
        return Identity()
    if arcface is None:
        raise MissingWeightsError(
            "metrics.identity.backend=arcface needs the ONNX file of an ArcFace network for 112 px, which this project "
            "does not carry; set weights.arcface=FILE or metrics.identity.backend=dlib, or leave its columns empty "
            "with metrics.on_missing=skip"
        )
    file = Path(arcface).expanduser()
    network = ArcFace(file, settings.values)
    beside = calibration_file(file)
    return Identity(network, read_calibration(beside, network) if beside.is_file() else None)


def hide(chip: np.ndarray, hidden: np.ndarray, network: FaceEmbedding) -> np.ndarray:
    """``chip`` with the colour that is 0 to the network where ``hidden`` (bool ``[size, size]``) says."""
    return np.where(hidden[..., None], np.array(network.neutral, np.uint8), chip)


def edited_face(faces: Sequence[Face], region: np.ndarray) -> Face | None:
    """The face with most of ``region`` (bool ``[H, W]``) in a box of twice its sides; of equal ones the largest."""

    def held(face: Face) -> tuple[int, int]:
        left, top, right, bottom = face.box
        x, y = (right - left) // 2, (bottom - top) // 2
        return int(region[max(0, top - y) : bottom + y, max(0, left - x) : right + x].sum()), face.area

    return max(faces, key=held, default=None)


def overlap(a: Box, b: Box) -> float:
    """Intersection over union."""
    left, top, right, bottom = (f(x, y) for f, x, y in zip((max, max, min, min), a, b, strict=True))
    common = max(0, right - left) * max(0, bottom - top)
    return common / (sum((c - x) * (d - y) for x, y, c, d in (a, b)) - common)


METRIC = Identity
