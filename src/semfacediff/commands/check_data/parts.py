"""What two parts of a data set have in common."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.near_duplicates import near_duplicates, thumb
from semfacediff.data.opening import open_data
from semfacediff.errors import UserError
from semfacediff.faces.detection import Detector
from semfacediff.hydra_app import composed_or_refused
from semfacediff.metrics.face_embedding import DlibFace
from semfacediff.types import Faces, FaceSample

PARTS = ("train", "val", "test")
SAME_PERSON = 0.4
"""Distance of dlib's embeddings within which two photos count as one person's: stricter than the 0.6 of its authors,
who compare two photos, not one with thousands."""


@dataclass(frozen=True)
class Found:
    """Two photos: ``kind`` is near-duplicate or person; ``parts`` those that they belong to."""

    kind: str
    ids: tuple[str, str]
    parts: tuple[str, str]
    difference: float

    @property
    def crosses(self) -> bool:
        return self.parts[0] != self.parts[1]


def check_data(words: Sequence[str], people: bool = False, as_json: bool = False) -> int:
    """Print the photos of each part and what photos of different parts have in common; 1 if any do, else 0.

    Args:
        words: the data set, as ``evaluate.py`` takes it.

    Raises:
        UserError: the data set cannot be opened, or has defective files (every one is named).
    """
    settings = config.typed(composed_or_refused("evaluate", list(words), config.repository()), config.EditingEvaluation)
    every = open_data(settings.data, "all", labels_needed=False).faces
    part_of = _parts(settings.data, every.ids)
    found = list(_duplicates(every, part_of)) + (list(_people(every, part_of)) if people else [])
    counts = {part: list(part_of.values()).count(part) for part in PARTS}
    if as_json:
        print(json.dumps({"photos": counts, "pairs": [vars(f) for f in found]}, indent=1))
    else:
        print(", ".join(f"{part}: {n}" for part, n in counts.items()), "photos")
        for pair in found:
            if pair.kind == "near-duplicate":
                print(f"near-duplicates: {_said(pair)}, mean difference {pair.difference:.1f} of 255")
        for part in PARTS[1:] if people else ():
            of = f"{_persons(found, part)} of {counts[part]} photos"
            print(f"persons of {part} in train: {of} (distance < {SAME_PERSON})")
        print(f"near-duplicates in two parts: {sum(f.crosses for f in found if f.kind == 'near-duplicate')}")
    return int(any(f.crosses for f in found))


def _parts(settings: config.AnyData, ids: Sequence[str]) -> dict[str, str]:
    """Id -> part; every file was checked before, so what cannot be opened is a part without photos."""
    part_of: dict[str, str] = {}
    for part in PARTS:
        try:
            part_of |= dict.fromkeys(open_data(settings, part, labels_needed=False).faces.ids, part)
        except UserError:
            continue
    return {id_: part_of.get(id_, "none") for id_ in ids}


def _samples(faces: Faces, title: str) -> Iterator[FaceSample]:
    for i in tqdm(range(len(faces)), title, unit="photo", leave=False, mininterval=0.5, disable=None):
        yield faces[i]


def _duplicates(faces: Faces, part_of: Mapping[str, str]) -> Iterator[Found]:
    thumbs = np.stack([thumb(sample.photo) for sample in _samples(faces, "compare")])
    for pair in near_duplicates(thumbs):
        ids = faces.ids[pair.first], faces.ids[pair.second]
        yield Found("near-duplicate", ids, (part_of[ids[0]], part_of[ids[1]]), pair.levels)


def _people(faces: Faces, part_of: Mapping[str, str]) -> Iterator[Found]:
    """For each photo of val and test, the nearest photo of train within :data:`SAME_PERSON`."""
    network, detector = DlibFace(), Detector()
    embedded: dict[str, dict[str, np.ndarray]] = {part: {} for part in (*PARTS, "none")}
    for sample in _samples(faces, "faces"):
        if found := detector.faces(sample.photo):
            embedded[part_of[sample.id]][sample.id] = network.embed(network.chip(sample.photo, found[0].points))
    known = list(embedded["train"])
    train = np.stack([*embedded["train"].values()]) if known else np.empty((0, 0))
    for part in PARTS[1:] if known else ():
        for id_, vector in embedded[part].items():
            distances = np.linalg.norm(train - vector, axis=1)
            nearest = int(distances.argmin())
            if distances[nearest] < SAME_PERSON:
                yield Found("person", (id_, known[nearest]), (part, "train"), float(distances[nearest]))


def _persons(found: Sequence[Found], part: str) -> int:
    return sum(f.kind == "person" and f.parts[0] == part for f in found)


def _said(pair: Found) -> str:
    return " and ".join(f"{id_} ({part})" for id_, part in zip(pair.ids, pair.parts, strict=True))
