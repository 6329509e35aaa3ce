"""Pictures of a training under way: rows of photos, label maps and what is made of them."""

import io
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from semfacediff.labels import palette
from semfacediff.records.writing import write_bytes
from semfacediff.synthesis.latents import PreparedFaces
from semfacediff.synthesis.model import SCADM
from semfacediff.synthesis.sampling import SamplingOptions
from semfacediff.synthesis.tasks import Synthesizer
from semfacediff.types import FaceSample, to_uint8

_GAP_PX = 2
_WHITE = 255


def tiled(rows: Sequence[np.ndarray]) -> np.ndarray:
    """uint8 ``[H, W, 3]``: rows of photos (uint8 ``[N, S, S, 3]`` each), parted by white lines."""
    pad = ((0, 0), (0, _GAP_PX), (0, _GAP_PX), (0, 0))
    lines = [np.concatenate(list(np.pad(row, pad, constant_values=_WHITE)), axis=1) for row in rows]
    return np.concatenate(lines, axis=0)[:-_GAP_PX, :-_GAP_PX]


def save_grid(rows: Sequence[np.ndarray], file: Path) -> None:
    """:func:`tiled` as PNG."""
    write_bytes(file, encoded_png(tiled(rows)))


def encoded_png(photo: np.ndarray) -> bytes:
    """A uint8 ``[H, W, 3]`` photo as PNG."""
    encoded = io.BytesIO()
    Image.fromarray(photo).save(encoded, "png")
    return encoded.getvalue()


def read_png(file: Path) -> np.ndarray | None:
    """The uint8 ``[H, W, 3]`` photo in a file; ``None`` where there is none, or no whole one."""
    pixels = cv2.imread(str(file)) if file.is_file() else None
    return None if pixels is None else np.ascontiguousarray(pixels[..., ::-1])


def generated_grid(model: SCADM, faces: PreparedFaces, n: int, options: SamplingOptions, file: Path) -> None:
    """Photos, label maps, reconstructions and two draws without a photo's style, of the first ``n`` faces."""
    shown = [FaceSample(faces.ids[i], faces.photos[i], faces.labels[i]) for i in range(min(n, len(faces)))]
    maps = np.stack([face.label_map for face in shown])
    synthesizer = Synthesizer(model, options, faces.label_space)
    made = [synthesizer.reconstruct(shown), *(synthesizer.generate(shown, draw) for draw in (1, 2))]
    rows = [np.stack([face.photo for face in shown]), palette(faces.label_space)[maps]]
    save_grid([*rows, *(np.stack([to_uint8(image) for image in one.images]) for one in made)], file)
