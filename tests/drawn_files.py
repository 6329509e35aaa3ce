"""Faces drawn with a few ellipses, and what another tool would have made of them, in files."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

SKIN, L_EYE, R_EYE, L_BROW, R_BROW, U_LIP, L_LIP, HAIR = 1, 4, 5, 6, 7, 11, 12, 13
# label, centre (x, y), half axes, all as shares of the frame, and the colour, back to front
PARTS = (
    (HAIR, (0.50, 0.42), (0.40, 0.40), (70, 45, 30)),
    (SKIN, (0.50, 0.55), (0.28, 0.36), (215, 170, 145)),
    (L_EYE, (0.62, 0.48), (0.06, 0.035), (60, 80, 120)),
    (R_EYE, (0.38, 0.48), (0.06, 0.035), (60, 80, 120)),
    (L_BROW, (0.62, 0.40), (0.08, 0.02), (60, 40, 30)),
    (R_BROW, (0.38, 0.40), (0.08, 0.02), (60, 40, 30)),
    (U_LIP, (0.50, 0.72), (0.11, 0.04), (190, 80, 90)),
    (L_LIP, (0.50, 0.77), (0.10, 0.04), (200, 90, 100)),
)


def drawn_face(i: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Photo uint8 ``[H, W, 3]`` and labels uint8 ``[H, W]`` of face ``i``; no random numbers, so it never changes."""
    y, x = np.mgrid[:height, :width]
    u, v = x / width - 0.02 * (i % 3 - 1), y / height
    photo = np.stack([150 + 60 * u, 170 + 40 * v, np.full(u.shape, 190.0 - 10 * i)], axis=-1)
    labels = np.zeros((height, width), np.uint8)
    for label, (cx, cy), (rx, ry), colour in PARTS:
        inside = ((u - cx) / rx) ** 2 + ((v - cy) / ry) ** 2 <= 1
        labels[inside], photo[inside] = label, colour
    texture = 14 * np.sin(0.9 * x + i) * np.cos(0.7 * y - 2 * i)
    return np.rint(np.clip(photo + texture[..., None], 0, 255)).astype(np.uint8), labels


def made_edit(photo: np.ndarray, region: np.ndarray) -> np.ndarray:
    """Another tool's edit: the region tinted, everything else slightly disturbed, as a VAE does."""
    y, x = np.mgrid[: photo.shape[0], : photo.shape[1]]
    ripple = 12 * np.sin(1.7 * x + 0.4 * y)[..., None] * np.array([1, -0.5, 0.7])
    tint = cv2.GaussianBlur(region.astype(np.float64), (5, 5), 0)[..., None] * np.array([60, -20, 40])
    return np.rint(np.clip(photo + ripple + tint, 0, 255)).astype(np.uint8)


CLASSES = {"hair": (HAIR,), "lips": (U_LIP, L_LIP), "skin": (SKIN,), "eyes": (L_EYE, R_EYE)}


def save(file: Path, pixels: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(file)


@pytest.fixture(scope="session")
def drawn() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """:func:`drawn_face`."""
    return drawn_face


@pytest.fixture(scope="session")
def write_files() -> Callable[..., Path]:
    """``write_files(root, sizes, attributes)``: a folder data set, edits and label maps of face 0, 1, ...

    ``images/<id>.png``, ``masks/<id>.png``, ``edits/<attribute>/<id>.png``, ``parses/before/<id>.png`` and
    ``parses/after/<attribute>/<id>.png`` for ids a, b, ...; ``sizes`` are (height, width).
    """

    def write(root: Path, sizes: list[tuple[int, int]], attributes=("hair", "lips")) -> Path:
        for i, (height, width) in enumerate(sizes):
            id_ = "abcdefgh"[i]
            photo, labels = drawn_face(i, height, width)
            save(root / "images" / f"{id_}.png", photo)
            for folder in ("masks", "parses/before"):
                save(root / folder / f"{id_}.png", labels)
            for attribute in attributes:
                region = np.isin(labels, CLASSES[attribute])
                save(root / "edits" / attribute / f"{id_}.png", made_edit(photo, region))
                save(root / "parses" / "after" / attribute / f"{id_}.png", np.roll(labels, 1 + i, axis=0))
        return root

    return write


@pytest.fixture(scope="session")
def alexnet_file(tmp_path_factory) -> Path:
    """A torchvision AlexNet state dict with random weights."""
    from torchvision.models import AlexNet

    with torch.device("meta"):
        shapes = AlexNet().features.state_dict()
    generator = torch.Generator().manual_seed(5)
    state = {f"features.{k}": 0.05 * torch.randn(v.shape, generator=generator) for k, v in shapes.items()}
    file = tmp_path_factory.mktemp("weights") / "alexnet.pth"
    torch.save(state, file)
    return file


@pytest.fixture(scope="session")
def checkpoint(tiny_checkpoint, tmp_path_factory) -> Path:
    """An untrained parser that calls about half of a drawn face skin and the rest hair."""
    from semfacediff.parsing import load_parser, save_parser

    model, card = load_parser(tiny_checkpoint)
    photo = torch.from_numpy(drawn_face(0, 64, 64)[0]).permute(2, 0, 1)[None] / 255
    bias = model.classifier[3].bias
    with torch.no_grad():
        logits = model((photo - torch.tensor(card.mean).view(3, 1, 1)) / torch.tensor(card.std).view(3, 1, 1))
        bias[[c for c in range(19) if c not in (SKIN, HAIR)]] -= 100.0
        bias[HAIR] += (logits[0, SKIN] - logits[0, HAIR]).median()
    folder = tmp_path_factory.mktemp("checkpoint") / "two-classes"
    save_parser(model, card, folder)
    return folder
