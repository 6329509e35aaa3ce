"""Sources of the report's pictures: the photos of a run and the files in its folder."""

import base64
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import yaml

from semfacediff import config
from semfacediff.data.opening import open_data
from semfacediff.data.selection import Data
from semfacediff.errors import UserError
from semfacediff.report.reading import Record

_QUALITY = 80
_DATA: dict[str, type[config.AnyData]] = {
    "toy": config.ToyData,
    "folder": config.FolderData,
    "shards": config.ShardsData,
    "celebamask_hq": config.CelebAMaskHQData,
    "lapa": config.LapaData,
    "helen": config.HelenData,
}


@dataclass(frozen=True)
class Thumbnails:
    """Panels of one sample (uint8 ``[h, w, 3]`` or ``[h, w]``) and what is missing."""

    panels: dict[str, np.ndarray]
    notes: list[str]


def saved_picture(file: Path) -> np.ndarray | None:
    """uint8 ``[h, w, 3]``; ``None`` if the picture is missing or unreadable."""
    pixels = cv2.imread(str(file)) if file.is_file() else None
    return None if pixels is None else np.ascontiguousarray(pixels[..., ::-1])


def thumbnail(picture: np.ndarray, px: int) -> str:
    """A data URI of a thumbnail with this long side."""
    height, width = picture.shape[:2]
    scale = px / max(height, width)
    if scale < 1:
        size = max(1, round(width * scale)), max(1, round(height * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    bgr = np.ascontiguousarray(picture[..., ::-1]) if picture.ndim == 3 else picture
    data = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, _QUALITY])[1].tobytes()
    return "data:image/webp;base64," + base64.b64encode(data).decode()


def recorded_data(record: Record, root: Path | None, labels_needed: bool) -> Data:
    """The run's photos, found by their digest and validated once.

    Args:
        root: their folder; ``None``: tried are ``SEMFACEDIFF_DATA`` and the ``data.root`` of the recorded command.

    Raises:
        UserError: they are missing or differ from the run's.
    """
    asked = record.config.get("data") or {}
    if asked.get("name") not in _DATA:
        raise UserError(
            f"{record.folder}: --with-photos does not support the data set '{asked.get('name')}'; leave it out"
        )
    plain = yaml.safe_load((config.repository() / "conf" / "data" / f"{asked['name']}.yaml").read_text()) | asked
    places = [str(root)] if root else _places(record)
    if "root" in plain and not places:
        raise UserError(f"{record.folder}: --with-photos needs the photos; give --data DIR or set SEMFACEDIFF_DATA")
    known, problems = record.run["identity"].get("inputs", {}).get("data"), []
    for place in places if "root" in plain else [None]:
        settings = config.checked(_DATA[asked["name"]], plain | ({"root": place} if place else {}))
        try:
            data = open_data(settings, None, labels_needed, record.config.get("limit"))
        except UserError as e:
            problems.append(str(e))
            continue
        if data.digest == known:
            return data
        got = f"others in {place}" if place else "others"
        problems.append(
            f"{record.folder}: expected the photos that the run saw (digest {str(known)[:12]}), got {got} (digest "
            f"{data.digest[:12]}); give --data DIR"
        )
    raise UserError("; ".join(problems))


def _places(record: Record) -> list[str]:
    """Folders where the photos may lie."""
    words = shlex.split(str(record.run.get("command") or ""))
    named = [word.removeprefix("data.root=") for word in words if word.startswith("data.root=")]
    found = [place for place in (os.environ.get("SEMFACEDIFF_DATA"), *named) if place]
    return list(dict.fromkeys(p for p in found if p not in named or Path(p).is_dir()))
