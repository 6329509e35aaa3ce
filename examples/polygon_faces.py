"""A data set: <root>/<id>.jpg (or .png) beside <root>/<id>.json, {"hair": [[[x, y], ...], ...], "skin": ...} in px.

semfacediff evaluate data=python data.target=polygon_faces:PolygonFaces data.options={root:DIR} metrics=no_weights
"""

import json
from pathlib import Path

import cv2
import numpy as np
from pydantic import BaseModel

from semfacediff.data.reading import Blob, decode_photo
from semfacediff.labels import CELEBAMASK
from semfacediff.types import FaceSample


class PolygonFaces:
    label_space = CELEBAMASK

    class Options(BaseModel):
        root: Path

    def __init__(self, root: Path):
        self.photos = {p.stem: p for p in sorted(root.glob("*")) if p.suffix in (".jpg", ".png")}
        self.ids = list(self.photos)
        self.root = root

    def __len__(self):
        return len(self.ids)

    def __getitem__(self, i):
        id_ = self.ids[i]
        photo = decode_photo(Blob(self.photos[id_], id_).read(), id_)
        labels = np.zeros(photo.shape[:2], np.uint8)
        for name, polygons in json.loads((self.root / f"{id_}.json").read_text()).items():  # later ones lie on top
            corners = [np.rint(polygon).astype(np.int32) for polygon in polygons]
            cv2.fillPoly(labels, corners, self.label_space.index(name))
        return FaceSample(id_, photo, labels)
