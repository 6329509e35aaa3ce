"""What distances of face embeddings mean: python benchmarks/identity.py [--arcface FILE] [--out FILE] KEY=VALUE...

Measures, on the photos that KEY=VALUE of ``evaluate.py`` name, how far apart the metric ``identity`` finds a photo and
itself after JPEG, another light and another size, and two neighbouring photos, which show two persons; the same with
the region of an attribute hidden. Writes the medians, with which the metric scores, and the groups of faces. About five
minutes of one core for 250 photos. The file in the package was made by

    python benchmarks/identity.py data=shards data.root=DIR data.split_rule.modulo=20 data.split=val

For another network name its file with --arcface; FILE.json beside it is what the metric reads.
"""

import argparse
import itertools
import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from tqdm import tqdm

from semfacediff import config
from semfacediff.data.opening import open_data
from semfacediff.hydra_app import composed
from semfacediff.labels import ATTRIBUTES, LabelSpace
from semfacediff.metrics.base import EditPair
from semfacediff.metrics.face_embedding import ArcFace, DlibFace
from semfacediff.metrics.face_facts import face_facts
from semfacediff.metrics.identity import OF_DLIB, WHOLE, Identity, calibration_file
from semfacediff.records.strata import strata_of
from semfacediff.records.writing import write_bytes
from semfacediff.types import Faces

OTHERS = 2
"""Photos that each is compared with, those after it."""


def jpeg(photo: np.ndarray) -> np.ndarray:
    """At quality 50."""
    file = cv2.imencode(".jpg", photo[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 50])[1]
    return np.ascontiguousarray(cv2.imdecode(file, cv2.IMREAD_COLOR)[..., ::-1])


def darker(photo: np.ndarray) -> np.ndarray:
    """A gamma of 1.5."""
    return np.rint(255 * (np.arange(256) / 255) ** 1.5).astype(np.uint8)[photo]


def smaller(photo: np.ndarray) -> np.ndarray:
    """Half the size and back."""
    height, width = photo.shape[:2]
    half = cv2.resize(photo, (width // 2, height // 2), interpolation=cv2.INTER_AREA)
    return cv2.resize(half, (width, height), interpolation=cv2.INTER_CUBIC)


SAME = {"jpeg": jpeg, "darker": darker, "smaller": smaller}


def regions(faces: Faces) -> Iterator[tuple[str, np.ndarray]]:
    """For every photo an attribute in turn and uint8 ``[H, W]``, 255 in its region: that of the next photo with one."""
    for i, attribute in zip(range(len(faces)), itertools.cycle(ATTRIBUTES)):
        sizes = faces[i].photo.shape[:2]
        masks = (region(faces[(i + k) % len(faces)].labels, attribute, faces.label_space) for k in range(len(faces)))
        mask = next((m for m in masks if m.mean() > 0.1), np.zeros(sizes, np.uint8))  # of 255: 0.04 % of the photo
        yield attribute, cv2.resize(mask, sizes[::-1], interpolation=cv2.INTER_NEAREST)


def region(labels: np.ndarray, attribute: str, space: LabelSpace) -> np.ndarray:
    values = [space.index(name) for name in ATTRIBUTES[attribute] if name in space.classes]
    return np.isin(labels, values).astype(np.uint8) * 255


def rows(faces: Faces, metric: Identity) -> Iterator[dict[str, object]]:
    """A row a comparison: the photo's facts, ``with`` what it was compared, and what the metric says of it."""
    for i, (attribute, mask) in enumerate(tqdm(regions(faces), total=len(faces))):
        sample = faces[i]
        facts = {"sample_id": sample.id, "attribute": attribute, "glasses": "eye_g" in shown(sample, faces.label_space)}
        facts["by_cnn"] = any(face.thorough for face in metric.detector.faces(sample.photo))
        facts |= face_facts(sample, sample.photo, sample.labels, faces.label_space)
        others = {f"other {k}": faces[(i + k) % len(faces)].photo for k in range(1, OTHERS + 1)}
        for name, photo in {**{name: change(sample.photo) for name, change in SAME.items()}, **others}.items():
            pair = EditPair(sample.photo, photo, mask, mask > 0, None, attribute=attribute)
            yield facts | {"with": name.split()[0]} | metric.score(pair)


def shown(sample, space: LabelSpace) -> set[str]:
    """Classes that a photo's labels show."""
    return {space.classes[value] for value in np.unique(sample.labels)}


def medians(table: pd.DataFrame, column: str) -> dict[str, object]:
    """Medians of one person's and of two persons' distances, and how many there are."""
    two = table["with"] == "other"
    same, different = table[~two][column].dropna(), table[two][column].dropna()
    return {
        "same": round(float(same.median()), 4),
        "different": round(float(different.median()), 4),
        "n_same": len(same),
        "n_different": len(different),
    }


def groups(table: pd.DataFrame) -> dict[str, dict[str, dict[str, object]]]:
    """By skin tone, pose and glasses: photos, how many have a face that the CNN detector alone found or none, of how
    many changed photos the face was lost, and the medians."""
    found: dict[str, dict[str, dict[str, object]]] = defaultdict(dict)
    by = {name: strata_of(table, name) for name in ("skin_tone", "pose")}
    of_rows = {name: (strata.names, strata.of) for name, strata in by.items()}
    of_rows |= {"glasses": (("yes", "no"), table["glasses"].map({True: "yes", False: "no"}))}
    for name, (strata, of) in of_rows.items():
        for stratum in strata:
            part = table[of == stratum]
            lacking = part["no_face"].fillna("").str.startswith("photo")
            lost = (part["no_face"] == "edit") & (part["with"] != "other")
            found[name][stratum] = {
                "photos": part["sample_id"].nunique(),
                "by_cnn": part[part["by_cnn"]]["sample_id"].nunique(),
                "no_face": part[lacking]["sample_id"].nunique(),
                "no_face_after": int(lost.sum()),
                **medians(part, "identity_distance"),
            }
    return dict(found)


def calibration(table: pd.DataFrame, metric: Identity) -> Mapping[str, object]:
    anchors = {WHOLE: medians(table, "identity_distance")}
    anchors |= {a: medians(part, "identity_outside_distance") for a, part in table.groupby("attribute", sort=False)}
    of_kind = table[table["with"] != "other"].groupby("with")["identity_distance"].median().round(4)
    return {
        "weights": metric.network.facts["weights"],
        "distance": metric.network.distance_of,
        "photos": table["sample_id"].nunique(),
        "anchors": anchors,
        "same": of_kind.to_dict(),
        "groups": groups(table),
    }


def main(words: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--arcface", type=Path, help="ONNX file; default: dlib's network")
    parser.add_argument("--values", choices=("signed", "bytes"), default="signed", help="what the ONNX file takes")
    parser.add_argument("--out", type=Path)
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE")
    asked = parser.parse_args(words)
    settings = config.typed(composed("evaluate", asked.words, config.repository()), config.EditingEvaluation)
    network = ArcFace(asked.arcface, asked.values) if asked.arcface else DlibFace()
    metric = Identity(network)
    table = pd.DataFrame(list(rows(open_data(settings.data).faces, metric)))
    found = calibration(table, metric)
    out = asked.out or (calibration_file(asked.arcface) if asked.arcface else OF_DLIB)
    write_bytes(out, (json.dumps(found, indent=1) + "\n").encode())
    print(json.dumps(found, indent=1), f"written: {out}", sep="\n")


if __name__ == "__main__":
    main()
